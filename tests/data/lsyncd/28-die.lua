-- args: -nodaemon -delay 1 -insist
-- codes: rsync 1
-- exit: 255
sync { default.rsync, source = "@/s", target = "h:/t" }
