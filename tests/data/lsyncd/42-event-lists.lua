-- covers: getEvents, init function
-- args: -nodaemon
-- setup: touch s/x
-- edit: mkdir d; mkdir e; rm x
-- calls: 2
sync {
  source = "@/s", target = "@/t", delay = 1,
  init = function(event)
    spawn(event, "@/bin/hook", "init", event.source, event.etype, event.path)
  end,
  action = function(inlet)
    local list = inlet.getEvents(function(event) return event.etype ~= "Attrib" end)
    local config = inlet.getConfig()
    local paths = list.getPaths(function(etype, one, two)
      if etype == "Delete" then return "gone" .. one end
      return one, two
    end)
    if #paths == 0 then
      local one = inlet.getEvent()
      inlet.discardEvent(one)
      return
    end
    table.sort(paths)
    spawn(list, "@/bin/hook", "<", table.concat(paths, "\n"), "list", config.target)
  end,
}
