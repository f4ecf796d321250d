-- args: -nodaemon
-- start: 0
-- edit: echo 1 > n; echo 1 > m; echo 2 > n; echo 2 > m; echo 3 > n
-- calls: 5
-- differs: user hooks
-- speil-calls: 2
sync { source = "@/s", delay = 1, onModify = "@/bin/hook ^pathname" }
