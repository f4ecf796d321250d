-- covers: init=false
-- start: 0
-- edit: touch n; mkdir d; touch d/f
-- calls: 1
sync { default.rsync, source = "@/s", target = "@/t", init = false }
