-- What the functions of a configuration are given while syncs run: events, lists, the inlet.
--
-- In: `host`, functions of the program; what `values.lua` returned. Out: `run(kind, function, sync, ...)`, which one job calls, and
-- `call(name, ...)`, by which a script calls a part of a built-in layer.

local host, values = ...
local timestamp, shown = values.timestamp, values.shown

local identity = setmetatable({}, { __mode = "k" })
local events, inlets = {}, {}

-- Events -----------------------------------------------------------------------------------------

local inlet_of

local Event = {}

function Event.__index(event, field)
  local self = identity[event]
  if field == "isList" then return false end
  if field == "config" then return host.config(self.sync) end
  if field == "inlet" then return inlet_of(self.sync) end
  if field == "move" then
    if not self.moved then return nil end
    return self.destination and "To" or "Fr"
  end
  local known, value = host.field(self.sync, self.id, self.destination or false, field)
  if not known then error('event does not have field "' .. tostring(field) .. '"', 2) end
  return value
end

local function event_of(sync, id, destination)
  local all = events[sync] or {}
  events[sync] = all
  local name = destination and -id or id
  if not all[name] then
    local event = setmetatable({}, Event)
    identity[event] = { sync = sync, id = id, destination = destination, moved = host.is_move(sync, id) }
    all[name] = event
  end
  return all[name]
end

local function forget(sync, ids)
  local all = events[sync]
  if not all then return end
  for _, id in ipairs(ids) do
    all[id], all[-id] = nil, nil
  end
end

local function list_of(sync, ids)
  local list = {}
  identity[list] = { sync = sync, ids = ids }
  local methods = {
    isList = true,
    config = host.config(sync),
    getPaths = function(first, second)
      local mutator = type(first) == "function" and first or second
      local paths = {}
      for _, id in ipairs(ids) do
        local etype, path, path2 = host.entry(sync, id)
        if mutator then
          local one, two = mutator(etype, path, path2)
          paths[#paths + 1] = one
          paths[#paths + 1] = two
        else
          paths[#paths + 1] = path
          paths[#paths + 1] = path2
        end
      end
      return paths
    end,
    getSourcePaths = function()
      local paths = {}
      for _, id in ipairs(ids) do
        local _, path = host.entry(sync, id)
        paths[#paths + 1] = host.config(sync).source .. path
      end
      return paths
    end,
    size = function() return #ids end,
    getList = function()
      local all = {}
      for at, id in ipairs(ids) do all[at] = event_of(sync, id) end
      return all
    end,
  }
  return setmetatable(list, {
    __index = function(_, field)
      local value = methods[field]
      if value == nil then error('event list does not have field "' .. tostring(field) .. '"', 2) end
      return value
    end,
  })
end

local function agent_of(sync, ids, list)
  if list then return list_of(sync, ids) end
  return event_of(sync, ids[1])
end

-- The inlet --------------------------------------------------------------------------------------

local function both(sync, id)
  if host.is_move(sync, id) then return event_of(sync, id), event_of(sync, id, true) end
  return event_of(sync, id)
end

function inlet_of(sync)
  if inlets[sync] then return inlets[sync] end
  local inlet = {
    getConfig = function() return host.config(sync) end,
    getEvent = function()
      local id = host.first(sync)
      if not id then return nil end
      return both(sync, id)
    end,
    getEvents = function(test)
      local ids = host.batch(sync)
      if test then
        local wanted = {}
        for _, id in ipairs(ids) do
          local verdict = test(event_of(sync, id))
          if verdict == "break" then break end
          if verdict then wanted[#wanted + 1] = id end
        end
        ids = host.batch(sync, wanted)
      end
      return list_of(sync, ids)
    end,
    discardEvent = function(event)
      local self = identity[event]
      if host.discard(self.sync, self.id) then forget(self.sync, { self.id }) end
    end,
    createBlanketEvent = function() return event_of(sync, host.whole(sync, "Blanket")) end,
    createFullEvent = function() return event_of(sync, host.whole(sync, "Full")) end,
    addExclude = function(pattern) host.rule(sync, "add", pattern) end,
    rmExclude = function(pattern) host.rule(sync, "rm", pattern) end,
    appendFilter = function(rule, pattern)
      host.rule(sync, "filter", pattern and (rule .. " " .. pattern) or rule)
    end,
    getExcludes = function() return host.rules(sync, "exclude") end,
    getFilters = function() return host.rules(sync, "filter") end,
    hasFilters = function() return #host.rules(sync, "filter") > 0 end,
  }
  identity[inlet] = { sync = sync, inlet = true }
  inlets[sync] = inlet
  return inlet
end

-- Globals ----------------------------------------------------------------------------------------

local globals = {}

function globals.log(category, ...)
  local words = {}
  for at = 1, select("#", ...) do
    words[at] = shown((select(at, ...)))
  end
  host.log(category, table.concat(words))
end

function globals.now() return timestamp(host.now()) end

function globals.terminate(code) host.terminate(code) end

function globals.readdir(path) return host.readdir(path) end

function globals.alarm(stamp, func, extra)
  host.alarm(stamp.seconds, function() return func(globals.now(), extra) end)
end

local function words_of(into, values, count)
  for at = 1, count do
    local value = values[at]
    if type(value) == "table" then
      words_of(into, value, #value)
    elseif type(value) == "string" or type(value) == "number" then
      into[#into + 1] = tostring(value)
    elseif value ~= nil then
      error("spawn arguments must be strings, numbers or tables of them", 3)
    end
  end
  return into
end

function globals.spawn(agent, binary, ...)
  local self = type(agent) == "table" and identity[agent]
  if not self or self.inlet then error("spawning with an invalid agent", 2) end
  if type(binary) ~= "string" then error("calling spawn(agent, binary, ...): binary is not a string", 2) end
  local words = words_of({}, { ... }, select("#", ...))
  local input = ""
  if words[1] == "<" then
    input = words[2] or ""
    words = { table.unpack(words, 3) }
  end
  local cause = host.spawn(self.sync, self.ids or { self.id }, self.ids ~= nil, binary, words, input)
  if cause then error(cause, 2) end
end

function globals.spawnShell(agent, command, ...)
  return globals.spawn(agent, "/bin/sh", "-c", command, "/bin/sh", ...)
end

function globals.observefd(fd, ready, writable) host.observe(fd, ready, writable) end
function globals.nonobservefd(fd) host.unobserve(fd) end

-- What the file asked for while it ran.
for _, alarm in ipairs(values.alarms) do globals.alarm(table.unpack(alarm, 1, 3)) end
for _, seen in ipairs(values.observed) do globals.observefd(table.unpack(seen, 1, 3)) end

-- The table of globals is locked by now.
for name, value in pairs(globals) do
  rawset(_G, name, value)
end

-- What the program calls -------------------------------------------------------------------------

return {
  -- Runs one job; the program holds it in a coroutine.
  run = function(kind, func, sync, first, second, third)
    if kind == "action" then
      return func(inlet_of(sync))
    elseif kind == "event" then
      return func(both(sync, first))
    elseif kind == "collect" then
      local verdict = func(agent_of(sync, first, second), third)
      if verdict ~= "again" then forget(sync, first) end
      return verdict
    end
    return func(first)
  end,
  call = function(name, subject, code)
    local self = type(subject) == "table" and identity[subject]
    if not self then error("a part of a layer takes an inlet or an event", 2) end
    if code ~= nil then return host.judge(self.sync, self.ids or { self.id }, self.ids ~= nil, code) end
    local func, id = host.part(self.sync, name)
    if func then return func(both(self.sync, id)) end
  end,
}
