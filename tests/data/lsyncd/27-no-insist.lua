-- codes: rsync 12
-- exit: 255
sync { default.rsync, source = "@/s", target = "h:/t" }
