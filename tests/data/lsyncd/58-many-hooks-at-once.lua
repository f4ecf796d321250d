-- start: 0
-- watchers: 2
-- edit: mkdir d e f
-- calls: 6
-- fence: 2
-- order: any
settings { maxProcesses = 2 }
sync { source = "@/s", onCreate = "@/bin/hook one ^pathname" }
sync { source = "@/s", maxProcesses = 9, onCreate = "@/bin/hook two ^pathname" }
