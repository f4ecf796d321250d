-- native: @/s => @/s
-- edit: rmdir a
-- calls: 2
sync { default.rsync, source = "@/s", target = "@/t", delete = "false" }
