-- covers: host::module
-- edit: touch n
-- calls: 2
sync { default.rsync, source = "@/s", target = "user@host::module", rsync = { perms = true } }
