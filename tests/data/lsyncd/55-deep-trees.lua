-- setup: mkdir -p s/old/x/y; touch s/old/x/y/f
-- native: @/s => @/s
-- edit: mkdir -p n/e/w; touch n/e/w/f n/g
-- calls: 2
-- edit: mv old new
-- calls: 3
-- edit: rm -r n
-- calls: 4
sync { default.rsync, source = "@/s", target = "@/t" }
