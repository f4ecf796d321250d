-- What a file and the functions of its syncs share: timestamps, how values are shown in the log, and what the
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

return { timestamp = timestamp, shown = shown, alarms = {}, observed = {} }
