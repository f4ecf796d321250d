-- What a configuration file finds in place: sync{}, settings{}, default, and inheritance.
--
-- Runs once per configuration, before the first file. `host` holds the functions of the program:
--   host.sync(table)         takes a finished block
--   host.settings(table)     takes settings
--   host.warn(text)          records a warning at the line that runs
--   host.no_layer(name)      notes that a layer was read that does not exist
--   host.undefined(name)     notes that an undefined global was read
--   host.place()             returns the file and line that run
--   host.exit(code)          ends the program
--   host.beside(name)        turns a relative file name into one beside the file that runs
-- Nothing here checks a value: that is done afterwards, by the layer that the block names.

local host = ...

local DEPTH_MAX = 32

-- Lists that are one value: an inherited one does not continue them.
local whole = { agent = true, bwlimit = true, command = true }

-- Keys that steer inheritance and are no part of the result.
local steering = { _merge = true, _verbatim = true }

local function deeper(depth)
  if depth >= DEPTH_MAX then
    error(host.place() .. ": tables are nested too deeply, or contain themselves", 0)
  end
  return depth + 1
end

local function copy(value, depth)
  if type(value) ~= "table" then
    return value
  end
  depth = deeper(depth)
  local new = {}
  for key, inner in pairs(value) do
    if not steering[key] then
      new[key] = copy(inner, depth)
    end
  end
  return new
end

local blend

-- Gives `into` what `from` holds under `key`, unless it has something there. Two tables are blended.
local function take(into, from, key, depth)
  local have, new = into[key], from[key]
  if have == nil then
    into[key] = copy(new, depth)
  elseif type(have) == "table" and type(new) == "table" and new._merge ~= false and not whole[key] then
    blend(have, new, depth, key)
  end
end

-- Blends a table into another: names that are missing are added, the list is appended. Numbers are
-- keys, not positions, in `exitcodes` and where `_verbatim` says so.
function blend(into, from, depth, name)
  depth = deeper(depth)
  local verbatim = from._verbatim == true or name == "exitcodes"
  for key in pairs(from) do
    if not steering[key] and (verbatim or math.type(key) ~= "integer") then
      take(into, from, key, depth)
    end
  end
  if not verbatim then
    for _, value in ipairs(from) do
      into[#into + 1] = copy(value, depth)
    end
  end
end

-- Settles a block: its own names win, then come the tables at its positions, in their order, each
-- settled in the same way. A value at a position that is no table is kept, for the check to find.
local function inherit(into, block, depth)
  depth = deeper(depth)
  local positions = {}
  for key in pairs(block) do
    if math.type(key) == "integer" then
      positions[#positions + 1] = key
    elseif not steering[key] then
      take(into, block, key, depth)
    end
  end
  table.sort(positions)
  for _, position in ipairs(positions) do
    local base = block[position]
    if type(base) == "table" then
      inherit(into, base, depth)
    else
      into[#into + 1] = base
    end
  end
  return into
end

-- The layers. What is written into one holds for every sync that begins with it from then on.
default = setmetatable({
  mirror = { _layer = "mirror" },
  rsync = { _layer = "rsync" },
  rsyncssh = { _layer = "rsyncssh" },
  direct = { _layer = "direct" },
}, {
  __index = function(_, name)
    host.no_layer(name)
    return nil
  end,
})

function sync(block)
  if type(block) ~= "table" then
    error("sync takes a table: sync { ... }", 2)
  end
  host.sync(inherit({}, block, 0))
end

-- settings{ key = value, "flag" } adds, settings("key") and settings.key read, and so that old files
-- work, settings.key = value and settings = { ... } add as well.
local set = {}

local function add_settings(values)
  local named = {}
  for key, value in pairs(values) do
    if math.type(key) == "integer" and type(value) == "string" then
      key, value = value, true
    end
    named[key] = copy(value, 0)
    set[key] = value
  end
  host.settings(named)
end

local settings = setmetatable({}, {
  __call = function(_, values)
    if type(values) == "string" then
      return set[values]
    elseif type(values) ~= "table" then
      error("settings takes a table: settings { ... }", 2)
    end
    add_settings(values)
  end,
  __index = set,
  __newindex = function(_, key, value)
    add_settings({ [key] = value })
  end,
})

-- `settings` lives behind the global table, so that assigning to it is seen.
setmetatable(_G, {
  __index = function(_, name)
    if name == "settings" then
      return settings
    end
    host.undefined(name)
    return nil
  end,
  __newindex = function(globals, name, value)
    if name == "settings" and type(value) == "table" then
      host.warn("settings = { ... } is the old form; write settings { ... }")
      add_settings(value)
    else
      rawset(globals, name, value)
    end
  end,
})

-- Files that a file names are looked for beside it, then in the working directory.
local plain_dofile, plain_loadfile = dofile, loadfile

function dofile(name)
  if name == nil then
    return plain_dofile()
  end
  local results = table.pack(plain_dofile(host.beside(name)))
  return table.unpack(results, 1, results.n)
end

function loadfile(name, ...)
  if name == nil then
    return plain_loadfile(name, ...)
  end
  return plain_loadfile(host.beside(name), ...)
end

function os.exit(code)
  if code == nil or code == true then
    code = 0
  elseif code == false then
    code = 1
  end
  host.exit(code)
end
