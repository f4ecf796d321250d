-- setup: echo 1 > s/x
-- codes: ssh 255 0
-- edit: mv x y
-- calls: 3
sync { default.rsyncssh, source = "@/s", host = "h", targetdir = "/t" }
