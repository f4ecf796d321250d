-- codes: rsync 24 23
-- edit: touch n
-- calls: 2
sync { default.rsync, source = "@/s", target = "h:/t" }
