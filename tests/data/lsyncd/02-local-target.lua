-- covers: local target, statusInterval, nodaemon, delay, settings.maxProcesses
-- args: -log scarce
-- native: @/s => @/s
-- edit: umask 077; echo 1 > a/f
-- calls: 2
-- edit: rm -r a
-- calls: 3
settings {
  logfile = "@/log.txt", statusFile = "@/status", statusInterval = 1, nodaemon = true, maxProcesses = 1,
}
sync { default.rsync, source = "@/s", target = "@/t", delay = 1 }
