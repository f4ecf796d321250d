-- covers: protect_args, dry_run
-- edit: echo 1 > n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "@/t/",
  rsync = { archive = true, owner = false, group = false, protect_args = false, dry_run = true },
}
