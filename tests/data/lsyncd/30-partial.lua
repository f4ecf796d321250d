-- codes: rsync 24 23
-- native: h:/t => h:@/t
-- edit: touch n
-- calls: 2
sync { default.rsync, source = "@/s", target = "h:/t" }
