-- native: @/s => @/s
-- edit: echo 1 > n
-- calls: 2
sync { default.rsync, source = "@/s", target = "@/t", rsync = { archive = 0, compress = "false", verbose = 1, times = false } }
