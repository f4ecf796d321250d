-- covers: prepare, checkgauge
-- native: @/s => @/s
-- targets: t/x
-- edit: touch n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "@/t", mine = "x",
  checkgauge = { mine = true },
  prepare = function(config, level)
    config.target = config.target .. "/" .. config.mine
    default.rsync.prepare(config, level + 1)
  end,
}
