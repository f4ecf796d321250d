-- codes: rsync 12
-- native: h:/t => h:@/t
-- exit: 255
sync { default.rsync, source = "@/s", target = "h:/t" }
