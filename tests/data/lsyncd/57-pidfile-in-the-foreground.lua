-- covers: pidfile, binary
-- native: @/bin/rsync => /usr/bin/rsync
-- edit: touch n; test ! -e ../pid
-- calls: 2
settings { pidfile = "@/pid" }
sync { default.rsync, source = "@/s", target = "@/t", rsync = { binary = "@/bin/rsync" } }
