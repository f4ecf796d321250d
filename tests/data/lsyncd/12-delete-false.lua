-- covers: delete=false
-- native: @/s => @/s
-- edit: touch n
-- there: test -e n
-- calls: 2
-- edit: rm n; rmdir a
-- calls: 3
sync { default.rsync, source = "@/s", target = "@/t", delete = false }
