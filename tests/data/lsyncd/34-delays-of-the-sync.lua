-- covers: sync.maxDelays
-- args: -nodaemon
-- native: @/s => @/s
-- edit: mkdir x; mkdir y; mkdir z
-- calls: 2
-- fence: 0
sync { default.rsync, source = "@/s", target = "@/t", delay = 600, maxDelays = 3 }
