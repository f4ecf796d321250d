-- What a file and the functions of its syncs share: timestamps, queues, how values are shown in the log, and what the
-- file asks for before anything runs.
--
-- Out: a table of functions, and the lists `alarms` and `observed`.

-- Timestamps: seconds on a clock of their own.
local Timestamp = {}
Timestamp.__index = Timestamp

local function timestamp(seconds)
  return setmetatable({ seconds = seconds, string = tostring(seconds) }, Timestamp)
end

function Timestamp.__add(left, right)
  if type(left) == "number" then left, right = right, left end
  return timestamp(left.seconds + right)
end

function Timestamp.__sub(left, right)
  if getmetatable(right) == Timestamp then return left.seconds - right.seconds end
  return timestamp(left.seconds - right)
end

function Timestamp.__lt(left, right) return left.seconds < right.seconds end
function Timestamp.__le(left, right) return left.seconds <= right.seconds end
function Timestamp.__eq(left, right) return left.seconds == right.seconds end
function Timestamp.__tostring(stamp) return "(Timestamp: " .. stamp.string .. ")" end
function Timestamp.__concat(left, right) return tostring(left) .. tostring(right) end

local function shown(value)
  if value == nil then return "(nil)" end
  if type(value) == "boolean" then return value and "(true)" or "(false)" end
  if getmetatable(value) == Timestamp then return tostring(value) end
  if type(value) == "table" then return "(Table: " .. tostring(value):match("0x%x+") .. ")" end
  return tostring(value)
end

-- Queues: values under rising positions, which stay theirs until the queue is empty.
local Queue = {}
local held = setmetatable({}, { __mode = "k" })
local methods = {}

local function walk(queue, from, to, step)
  local state = held[queue]
  local at = state[from] - step
  return function()
    repeat at = at + step until at * step > state[to] * step or state.values[at] ~= nil
    if at * step <= state[to] * step then return at, state.values[at] end
  end
end

function methods.push(queue, value)
  if value == nil then error("Queue pushing nil value", 2) end
  local state = held[queue]
  state.last, state.size = state.last + 1, state.size + 1
  state.values[state.last] = value
  return state.last
end

function methods.replace(queue, at, value)
  local state = held[queue]
  if state.values[at] == nil then error("Trying to replace an unset Queue entry.", 2) end
  state.values[at] = value
end

function methods.remove(queue, at)
  local state = held[queue]
  if state.values[at] == nil then error("Removing nonexisting item in Queue", 2) end
  state.values[at], state.size = nil, state.size - 1
  if state.size == 0 then
    state.first, state.last = 1, 0
  else
    while state.values[state.first] == nil do state.first = state.first + 1 end
    while state.values[state.last] == nil do state.last = state.last - 1 end
  end
end

function methods.first(queue) return held[queue].values[held[queue].first] end
function methods.last(queue) return held[queue].values[held[queue].last] end
function methods.size(queue) return held[queue].size end
function methods.qpairs(queue) return walk(queue, "first", "last", 1) end
function methods.qpairsReverse(queue) return walk(queue, "last", "first", -1) end

local Entries = {
  __index = function(queue, key) return methods[key] or held[queue].values[key] end,
  __newindex = function() error("Queues are not directly assignable.", 2) end,
}

function Queue.new()
  local queue = setmetatable({}, Entries)
  held[queue] = { first = 1, last = 0, size = 0, values = {} }
  return queue
end

return { timestamp = timestamp, shown = shown, Queue = Queue, alarms = {}, observed = {} }
