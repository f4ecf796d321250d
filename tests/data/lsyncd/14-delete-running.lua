-- covers: delete=running
-- edit: rmdir a
-- calls: 2
sync { default.rsync, source = "@/s", target = "@/t", delete = "running" }
