-- covers: collect
-- args: -nodaemon
-- codes: hook 5 5 0
-- start: 0
-- edit: mkdir d
-- calls: 3
sync {
  source = "@/s", delay = 1,
  onCreate = function(event) spawn(event, "@/bin/hook", event.pathname) end,
  collect = function(agent, code)
    log("Normal", "code ", code)
    if code == 5 then return "again" end
    if code ~= 0 then spawnShell = nil end
    return
  end,
}
