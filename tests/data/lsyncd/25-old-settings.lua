-- covers: old settings
-- native: @/s => @/s
-- edit: touch n
-- fence: 0
-- exit: 255
-- differs: `settings = {
-- speil-calls: 2
-- speil-exit: 143
settings = { logfile = "@/lsyncd.log", nodaemon = true }
sync { default.rsync, source = "@/s", target = "@/t", rsync = { archive = true } }
