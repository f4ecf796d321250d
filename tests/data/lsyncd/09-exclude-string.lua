-- covers: exclude string, delete=true
-- native: @/s => @/s
-- edit: touch a.tmp b.txt
-- calls: 2
-- edit: rm b.txt; mv a.tmp c.txt
-- calls: 3
sync { default.rsync, source = "@/s", target = "@/t", exclude = "*.tmp", delete = true }
