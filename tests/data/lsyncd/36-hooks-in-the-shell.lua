-- covers: onX strings
-- args: -nodaemon
-- setup: echo 1 > "s/o ld"; touch s/gone
-- start: 0
-- edit: touch "n w"; mkdir d; rm gone
-- calls: 3
-- edit: mv "o ld" new
-- calls: 4
-- order: any
sync {
  source = "@/s", target = "@/t/", delay = 1,
  onCreate = "exec @/bin/hook create ^source ^target ^path ^pathname ^pathdir '^sourcePath' ^^ ^basename",
  onDelete = [[ ^ @/bin/hook delete "^sourcePathname" ^sourcePathdir $(echo x) ]],
  onMove = [[sh -c '@/bin/hook move "$@"' sh ^o.path ^d.path ^o.targetPath ^d.sourcePathname]],
}
