-- Names that lsyncd's files find although Lua 5.4 has them no more, or speil's Lua leaves them out.
--
-- In: `host`, functions of the program. Out: globals. Sources: the reference manuals of Lua 5.1 to 5.3.

local host = ...

unpack = unpack or table.unpack
loadstring = loadstring or load
table.getn = table.getn or function(list) return #list end
math.pow = math.pow or function(base, exponent) return base ^ exponent end

function table.maxn(list)
  local most = 0
  for key in pairs(list) do
    if type(key) == "number" and key > most then most = key end
  end
  return most
end

-- Of the library `debug` what tells where a program is; what reaches into it is left out.
debug = debug or { traceback = host.traceback, getinfo = host.running }

-- 32 bits, unsigned; what a number has beyond them is cut off.
local WORD = 0xffffffff

local function word(number)
  return math.tointeger(number // 1 % (WORD + 1)) & WORD
end

local function fold(first, step)
  return function(...)
    local folded = first
    for at = 1, select("#", ...) do
      folded = step(folded, word((select(at, ...))))
    end
    return folded
  end
end

local function shift(number, places)
  if places <= -32 or places >= 32 then return 0 end
  number = word(number)
  return (places < 0 and number >> -places or number << places) & WORD
end

local function rotate(number, places)
  places = places % 32
  return (word(number) << places | word(number) >> (32 - places)) & WORD
end

local function field(at, width)
  width = width or 1
  if at < 0 or width < 1 or at + width > 32 then error("trying to access non-existent bits", 3) end
  return WORD >> (32 - width)
end

local both = fold(WORD, function(one, two) return one & two end)

bit32 = bit32 or {
  band = both,
  bor = fold(0, function(one, two) return one | two end),
  bxor = fold(0, function(one, two) return one ~ two end),
  bnot = function(number) return ~word(number) & WORD end,
  btest = function(...) return both(...) ~= 0 end,
  lshift = shift,
  rshift = function(number, places) return shift(number, -places) end,
  arshift = function(number, places)
    local filled = word(number) & 0x80000000 ~= 0 and places > 0
    if not filled then return shift(number, -places) end
    return places >= 32 and WORD or (shift(number, -places) | ~(WORD >> places) & WORD)
  end,
  lrotate = rotate,
  rrotate = function(number, places) return rotate(number, -places) end,
  extract = function(number, at, width)
    local mask = field(at, width)
    return word(number) >> at & mask
  end,
  replace = function(number, value, at, width)
    local mask = field(at, width)
    return word(number) & ~(mask << at) & WORD | (word(value) & mask) << at
  end,
}
