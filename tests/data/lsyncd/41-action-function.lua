-- covers: action function, discardEvent
-- start: 0
-- edit: mkdir d
-- calls: 1
-- edit: touch f
-- calls: 2
-- edit: rmdir d
-- calls: 2
sync {
  source = "@/s",
  action = function(inlet)
    local event = inlet.getEvent()
    if event.etype ~= "Create" then
      inlet.discardEvent(event)
      return
    end
    spawn(event, "@/bin/hook", "<", "line one\nline two", event.etype, event.path, event.status)
  end,
}
