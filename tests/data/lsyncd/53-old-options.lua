-- covers: rsyncOpts
-- edit: touch n
-- fence: 0
-- exit: 255
-- differs: `statusIntervall`, `rsyncOps`
-- speil-calls: 2
-- speil-exit: 143
sync { default.rsync, source = "@/s", target = "@/t", rsyncOpts = { "-avz", "--one" } }
