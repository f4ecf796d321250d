-- codes: rsync 0 2
-- native: h:/t => h:@/t
-- edit: touch n
-- fence: 0
-- exit: 255
sync { default.rsync, source = "@/s", target = "h:/t" }
