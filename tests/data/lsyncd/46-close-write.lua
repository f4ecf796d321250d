-- covers: CloseWrite
-- native: @/s => @/s
-- edit: echo 1 > f; echo 2 >> f
-- calls: 2
settings { inotifyMode = "CloseWrite" }
sync { default.rsync, source = "@/s", target = "@/t" }
