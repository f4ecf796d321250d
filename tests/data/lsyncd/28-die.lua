-- args: -nodaemon -delay 1 -insist
-- codes: rsync 1
-- native: h:/t => h:@/t
-- exit: 255
sync { default.rsync, source = "@/s", target = "h:/t" }
