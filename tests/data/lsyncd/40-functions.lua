-- covers: functions, onCreate function, spawn, spawnShell, log()
-- start: 0
-- edit: mkdir d
-- calls: 1
-- edit: touch d/f
-- calls: 2
-- edit: mv d/f g
-- calls: 3
-- order: any
local count = 0
local function told(event)
  count = count + 1
  log("Normal", "heard ", event.etype, " of ", event.pathname, " ", count, " ", event.isdir)
end
sync {
  source = "@/s", target = "@/t",
  onCreate = function(event)
    told(event)
    if event.isdir then
      spawn(event, "@/bin/hook", "dir", event.path, event.name, event.sourcePath, { "nested", 3, nil })
    else
      spawnShell(event, '@/bin/hook "$@"', event.pathname, event.basename, event.targetPathname)
    end
  end,
  onMove = function(origin, destination)
    spawn(origin, "@/bin/hook", "move", origin.path, destination.path, origin.move, destination.move)
  end,
}
