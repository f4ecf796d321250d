-- covers: sync.maxProcesses
-- start: 0
-- edit: mkdir d; mkdir d/e
-- calls: 2
-- edit: rmdir d/e
-- calls: 3
-- order: any
sync {
  source = "@/s", target = "host:/t", maxProcesses = 2,
  onCreate = "/bin/sh @/bin/hook c ^pathname to=^targetPathname \"two words\"",
  onDelete = "/bin/sh @/bin/hook d ^sourcePathname",
}
