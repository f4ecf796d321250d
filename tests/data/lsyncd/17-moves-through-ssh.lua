-- setup: echo 1 > s/x; echo 1 > s/y.part; mkdir s/in; echo 1 > s/in/f
-- edit: mv x "it's"
-- calls: 2
-- edit: mv in out
-- calls: 3
-- edit: mv y.part y
-- calls: 4
-- edit: mv y z.part
-- calls: 5
sync { default.rsyncssh, source = "@/s", host = "h", targetdir = "/it's here", exclude = { "*.part" } }
