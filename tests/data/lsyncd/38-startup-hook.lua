-- covers: onStartup string
-- edit: mkdir d
-- calls: 2
sync {
  source = "@/s", target = "@/t",
  onStartup = "@/bin/hook first ^source ^target; exit 0",
  onCreate = "@/bin/hook create ^pathname",
}
