-- covers: invalid inotifyMode
-- exit: 255
settings { inotifyMode = "CloseWrite and Modify" }
sync { default.rsync, source = "@/s", target = "@/t" }
