-- setup: echo 1 > s/x
-- codes: ssh 255 0
-- native: targetdir = "/t" => targetdir = "@/t"
-- edit: mv x y
-- calls: 3
sync { default.rsyncssh, source = "@/s", host = "h", targetdir = "/t" }
