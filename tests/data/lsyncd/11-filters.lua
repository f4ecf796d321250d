-- covers: filter
-- setup: printf '+ *.h\n- /gone\n' > filters
-- native: @/s => @/s
-- edit: touch a/keep x.o no y.h gone z.c w
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "@/t",
  filter = { "+ /a/keep", "- *.o", "- /no" }, filterFrom = "@/filters", exclude = "*.c",
}
