-- covers: _extra
-- native: host:/t => @/t
-- native: sudo rsync => rsync
-- edit: echo 1 > n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "host:/t",
  rsync = { archive = true, _extra = { "--omit-dir-times", "--max-size=10m", "-4", "--rsync-path=sudo rsync" } },
}
