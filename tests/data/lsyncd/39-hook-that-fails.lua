-- codes: hook 3
-- start: 0
-- edit: mkdir d
-- fence: 0
-- exit: 255
sync { source = "@/s", onCreate = "@/bin/hook ^pathname" }
