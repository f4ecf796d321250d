-- exit: 255
sync {
  source = "@/s",
  prepare = function(config, level) error("not like this", level) end,
}
