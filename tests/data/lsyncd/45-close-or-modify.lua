-- covers: CloseWrite or Modify
-- native: @/s => @/s
-- edit: echo 1 > f; echo 2 >> f
-- calls: 2
settings { inotifyMode = "CloseWrite or Modify" }
sync { default.rsync, source = "@/s", target = "@/t" }
