-- args: -nodaemon
-- start: 0
-- edit: echo 1 > n; echo 2 > n; echo 3 > n
-- calls: 3
-- differs: user hooks
-- speil-calls: 1
sync { source = "@/s", delay = 1, onModify = "@/bin/hook ^pathname" }
