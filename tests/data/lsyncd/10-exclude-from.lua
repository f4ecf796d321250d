-- covers: excludeFrom
-- setup: printf '# c\n\n*.log\n- tmp/\n+ kept\n' > excludes
-- native: @/s => @/s
-- edit: mkdir tmp; touch x.log tmp/f kept own other
-- calls: 2
sync { default.rsync, source = "@/s", target = "@/t", exclude = { "own" }, excludeFrom = "@/excludes" }
