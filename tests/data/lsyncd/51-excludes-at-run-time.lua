-- covers: addExclude
-- args: -nodaemon
-- setup: touch s/close s/open
-- start: 0
-- edit: mkdir n1 x
-- calls: 1
-- edit: rm close
-- calls: 2
-- edit: mkdir n2 m
-- calls: 3
-- edit: rm open
-- calls: 4
-- edit: mkdir n3
-- calls: 5
-- fence: 0
sync {
  source = "@/s", delay = 1, checkgauge = { exclude = true }, exclude = { "x" },
  action = function(inlet)
    local event = inlet.getEvent()
    if event.etype == "Delete" and event.pathname == "close" then inlet.addExclude("n*") end
    if event.etype == "Delete" and event.pathname == "open" then inlet.rmExclude("n*") end
    spawn(event, "@/bin/hook", event.etype, event.pathname, #inlet.getExcludes())
  end,
}
