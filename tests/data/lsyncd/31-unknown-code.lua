-- args: -nodaemon -delay 1 -insist
-- codes: rsync 0 13
-- native: h:/t => h:@/t
-- edit: touch n
-- fence: 0
-- exit: 255
sync { default.rsync, source = "@/s", target = "h:/t" }
