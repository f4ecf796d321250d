-- covers: exitcodes
-- codes: rsync 0 1 23 0
-- native: h:/t => h:@/t
-- edit: touch n
-- calls: 4
sync {
  default.rsync, source = "@/s", target = "h:/t",
  exitcodes = { [0] = "ok", [1] = "again", [23] = "again" },
}
