-- codes: rsync 12 255 0 11 0
-- start: 3
-- native: @/s => @/s
-- edit: touch n
-- calls: 5
settings { insist = true }
sync { default.rsync, source = "@/s", target = "@/t" }
