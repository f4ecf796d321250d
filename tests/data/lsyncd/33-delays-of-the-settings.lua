-- covers: settings.maxDelays, sync.maxDelays
-- args: -nodaemon
-- native: @/s => @/s
-- edit: touch n
-- calls: 2
settings { maxDelays = 1 }
sync { default.rsync, source = "@/s", target = "@/t", delay = 600, maxDelays = 100 }
