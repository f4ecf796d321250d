-- covers: createBlanketEvent
-- setup: touch s/gone
-- start: 0
-- edit: rm gone
-- calls: 1
-- edit: mkdir d
-- calls: 2
-- fence: 2
sync {
  source = "@/s",
  action = function(inlet)
    local event = inlet.getEvent()
    if event.etype == "Delete" then
      inlet.discardEvent(event)
      local blanket = inlet.createBlanketEvent()
      spawn(blanket, "@/bin/hook", "blanket", blanket.etype, blanket.status)
    else
      spawn(event, "@/bin/hook", event.etype, event.pathname)
    end
  end,
}
