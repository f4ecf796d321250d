-- covers: exclude list
-- native: @/s => @/s
-- edit: mkdir -p cache x b/cache; touch 1.bak drop keep b/drop cache/f b/cache/g foo food x/y b/.git
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "@/t",
  exclude = { "*.bak", "/drop", "cache/", "fo?", "x/y", ".git" },
}
