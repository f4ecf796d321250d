-- The names that a configuration in lsyncd's language finds, and how its blocks are settled.
--
-- In: `host`, functions of the program; the constants that are not worth a call each.
-- `values`, what `values.lua` returned.
-- Out: a table of functions that the program calls: `take_cli`, `finish`, `lock`, and those of `action`.
-- Not here: what a running sync does, which is the module `action`.

local host, values = ...

local DEPTH_MAX = 32

local function refuse(message)
  error(host.place() .. message, 0)
end

function table.contains(list, wanted)
  for _, value in pairs(list) do
    if value == wanted then return true end
  end
  return false
end

function string.starts(text, front)
  return text:sub(1, #front) == front
end

function string.ends(text, tail)
  return tail == "" or text:sub(-#tail) == tail
end

lsyncd_version = host.version
Queue = values.Queue

-- What a file may call while it runs; the functions of its syncs find more under the same names.
function log(category, ...)
  local words = {}
  for at = 1, select("#", ...) do
    words[at] = values.shown((select(at, ...)))
  end
  host.log(category, table.concat(words))
end

function now() return values.timestamp(host.now()) end

function readdir(path)
  local found = host.readdir(path)
  if not found then log("Error", "cannot open dir [", path, "].") end
  return found
end

function terminate(code) host.exit(code or 0) end

function alarm(stamp, func, extra) values.alarms[#values.alarms + 1] = { stamp, func, extra } end

function observefd(fd, ready, writable) values.observed[#values.observed + 1] = { fd, ready, writable } end

function nonobservefd(fd)
  for at = #values.observed, 1, -1 do
    if values.observed[at][1] == fd then table.remove(values.observed, at) end
  end
end

function spawn() error("spawning with an invalid agent", 2) end

spawnShell = spawn

-- Settings ---------------------------------------------------------------------------------------

local SETTINGS = {
  "inotifyMode", "insist", "logfacility", "logfile", "logident", "maxDelays", "maxProcesses", "nodaemon",
  "onepass", "pidfile", "statusFile", "statusInterval", "engine", "shutdownWait",
}
local known_setting = {}
for _, key in ipairs(SETTINGS) do
  known_setting[key] = true
end

-- Keys that old releases knew: where their value goes now, or false where it goes nowhere.
local OLD_SETTINGS = { statusIntervall = "statusInterval", delay = "delay", log = false }

local set = {}

local function add_setting(key, value)
  if OLD_SETTINGS[key] ~= nil then
    local new = OLD_SETTINGS[key]
    host.warn(host.place() .. 'setting "' .. key .. '" is of old'
      .. (new and new ~= key and (', write "' .. new .. '"') or new and ", write it in the sync" or " and does nothing"))
    if new then set[new] = value end
  elseif known_setting[key] then
    set[key] = value
  else
    local near = host.nearest(tostring(key), SETTINGS)
    refuse('setting "' .. tostring(key) .. '" unknown.' .. (near and (' ( did you mean "' .. near .. '"? )') or ""))
  end
end

local function add_settings(values)
  for key, value in pairs(values) do
    if math.type(key) == "integer" and type(value) == "string" then
      key, value = value, true
    end
    add_setting(key, value)
  end
end

local settings_object = setmetatable({}, {
  __call = function(_, values)
    if type(values) == "string" then return set[values] end
    if type(values) ~= "table" then refuse("settings needs a table") end
    add_settings(values)
  end,
  __index = set,
  __newindex = function(_, key, value)
    add_setting(key, value)
  end,
})

local locked = false

local function excepted(name)
  return type(name) == "string" and (name == "_" or name:sub(1, 2) == "__")
end

setmetatable(_G, {
  __index = function(_, name)
    if name == "settings" then return settings_object end
    if locked and not excepted(name) then
      error('Access to undefined global "' .. tostring(name) .. '"', 2)
    end
    return nil
  end,
  __newindex = function(globals, name, value)
    if locked and not excepted(name) then
      error('GLOBALS are locked: assigning to "' .. tostring(name) .. '"', 2)
    end
    if name == "settings" and type(value) == "table" and value ~= settings_object then
      host.warn(host.place() .. "Do not use settings = { ... }, write settings{ ... } (without the equal sign)")
      add_settings(value)
    else
      rawset(globals, name, value)
    end
  end,
})

-- Inheritance ------------------------------------------------------------------------------------

local function deeper(depth)
  if depth >= DEPTH_MAX then refuse("tables are nested too deeply, or contain themselves") end
  return depth + 1
end

local steering = { _merge = true, _verbatim = true }

local function is_position(key)
  return math.type(key) == "integer"
end

local blend

local function copy(value, key, depth)
  if type(value) ~= "table" then return value end
  local new = {}
  blend(new, value, key, deeper(depth))
  return new
end

-- Gives `into` what it lacks of `from`. Lists are appended; numbers are keys where the table says so.
function blend(into, from, name, depth)
  local verbatim = from._verbatim == true or from._verbatim == "forced" or name == "exitcodes"
    or name == "rsyncExitCodes" or name == "sshExitCodes"
  for key, value in pairs(from) do
    if not steering[key] and (verbatim or not is_position(key)) then
      local have = into[key]
      if have == nil then
        into[key] = copy(value, key, depth)
      elseif type(have) == "table" and type(value) == "table" and value._merge ~= false and not host.codes[key] then
        blend(have, value, key, deeper(depth))
      end
    end
  end
  if not verbatim then
    for _, value in ipairs(from) do
      into[#into + 1] = copy(value, nil, depth)
    end
  end
end

local function inherit(into, block, depth)
  depth = deeper(depth)
  local named, positions = {}, {}
  for key, value in pairs(block) do
    if is_position(key) then
      positions[#positions + 1] = key
    else
      named[key] = value
    end
  end
  blend(into, named, nil, depth)
  table.sort(positions)
  for _, position in ipairs(positions) do
    if type(block[position]) == "table" then inherit(into, block[position], depth) end
  end
end

-- Checks -----------------------------------------------------------------------------------------

local function check_gauge(config, gauge, above)
  for key, value in pairs(config) do
    if not is_position(key) and not steering[key] then
      local entry = gauge[key]
      local name = above .. tostring(key)
      if not entry then
        local known = {}
        for word, allowed in pairs(gauge) do
          if allowed and type(word) == "string" then known[#known + 1] = word end
        end
        local near = host.nearest(tostring(key), known)
        refuse('Parameter "' .. name .. '" unknown. ( if this is not a typo add it to checkgauge )'
          .. (near and (' ( did you mean "' .. near .. '"? )') or ""))
      elseif type(entry) == "table" then
        if type(value) ~= "table" then refuse('Parameter "' .. name .. '" must be a table.') end
        check_gauge(value, entry, name .. ".")
      end
    end
  end
end

local function gauge_of(words, more)
  local gauge = more or {}
  for word in words:gmatch("%S+") do
    gauge[word] = true
  end
  return gauge
end

local function default_prepare(config)
  local gauge = config.checkgauge
  if not gauge then return end
  local public = {}
  for key, value in pairs(config) do
    if type(key) ~= "string" or key:sub(1, 1) ~= "_" then public[key] = value end
  end
  check_gauge(public, gauge, "")
end

local function with_slash(target)
  if type(target) == "string" and not target:find("[/:]$") then return target .. "/" end
  return target
end

local function rsync_prepare(config, level, skip_target)
  default_prepare(config, level)
  if not skip_target and not config.target then
    refuse('default.rsync needs "target" configured')
  end
  if config.rsyncOps and config.rsyncOpts then
    refuse('"rsyncOps" and "rsyncOpts" cannot both be given')
  end
  if config.rsync and config.rsync._computed then
    refuse('please do not use the internal rsync._computed parameter')
  end
  if type(config.rsync) == "table" then
    config.rsync.binary = config.rsync.binary or "/usr/bin/rsync"
    config.rsync._computed = host.rsync_words(config)
  end
  config.target = with_slash(config.target)
end

local function rsyncssh_prepare(config, level)
  rsync_prepare(config, level, true)
  if not config.host then refuse('default.rsyncssh needs "host" configured') end
  if not config.targetdir then refuse('default.rsyncssh needs "targetdir" configured') end
  if config.maxProcesses ~= 1 then
    if config._forced_processes then
      host.warn(host.place() .. "settings.maxProcesses does not hold for default.rsyncssh, which works one by one")
      config.maxProcesses = 1
    else
      refuse("default.rsyncssh must have maxProcesses set to 1.")
    end
  end
  config.targetdir = with_slash(config.targetdir)
  config._rsync_target = config.host .. ":" .. config.targetdir
  if type(config.ssh) == "table" then
    local words, shell = host.ssh_words(config.ssh)
    config.ssh.binary = config.ssh.binary or "/usr/bin/ssh"
    config.ssh._computed = words
    if type(config.rsync) == "table" then table.insert(config.rsync._computed, shell) end
  end
end

-- The layers -------------------------------------------------------------------------------------

local RSYNC_WORDS = [[
  acls append append_verify archive backup backup_dir binary bwlimit checksum chmod chown compress
  copy_dirlinks copy_links copy_unsafe_links cvs_exclude delete_excluded dry_run executability existing group
  groupmap hard_links ignore_times inplace ipv4 ipv6 keep_dirlinks links omit_dir_times omit_link_times
  one_file_system owner password_file perms protect_args prune_empty_dirs quiet rsh rsync_path sparse suffix
  temp_dir timeout times update usermap verbose whole_file xattrs _extra _computed
]]

local function rsync_codes()
  local codes = { _verbatim = true }
  for _, code in ipairs { 0, 23, 24 } do codes[code] = "ok" end
  for _, code in ipairs { 3, 5, 6, 10, 11, 12, 14, 20, 21, 22, 30, 35, 255 } do codes[code] = "again" end
  for _, code in ipairs { 1, 2, 4, 25 } do codes[code] = "die" end
  return codes
end

local function ssh_codes()
  return { _verbatim = true, [0] = "ok", [255] = "again" }
end

local function rsync_gauge(more)
  more.rsync = gauge_of(RSYNC_WORDS)
  return gauge_of([[
    agent batchSizeLimit delete deleteGuard exclude excludeFrom filter filterFrom reconcile rsyncOps rsyncOpts target
  ]], more)
end

default = {
  action = host.builtin("default", "action"),
  collect = host.builtin("default", "collect"),
  init = host.builtin("default", "init"),
  prepare = default_prepare,
  maxDelays = 1000,
  maxProcesses = 1,
  rsyncExitCodes = rsync_codes(),
  sshExitCodes = ssh_codes(),
  checkgauge = gauge_of [[
    action checkgauge collect crontab delay engine exitcodes full init maxDelays maxProcesses name monitor
    onAttrib onCreate onDelete onFull onModify onMove onStartup prepare source subdirs target tunnel
  ]],
}

default.rsync = {
  action = host.builtin("rsync", "action"),
  init = host.builtin("rsync", "init"),
  full = host.builtin("rsync", "full"),
  prepare = rsync_prepare,
  delay = 15,
  delete = true,
  exitcodes = rsync_codes(),
  rsync = { links = true, times = true, protect_args = true },
  checkgauge = rsync_gauge { onCreate = false, onModify = false, onDelete = false, onStartup = false, onMove = false },
  _kind = "rsync",
}

default.rsyncssh = {
  default.rsync,
  action = host.builtin("rsyncssh", "action"),
  collect = host.builtin("rsyncssh", "collect"),
  prepare = rsyncssh_prepare,
  exitcodes = false,
  onMove = true,
  rsyncExitCodes = rsync_codes(),
  sshExitCodes = ssh_codes(),
  ssh = {},
  checkgauge = {
    target = false,
    host = true, targetdir = true, onMove = true, rsyncExitCodes = true, sshExitCodes = true,
    ssh = { _extra = true, binary = true, identityFile = true, options = true, port = true },
  },
  _kind = "rsyncssh",
}

default.direct = {
  action = host.builtin("direct", "action"),
  collect = host.builtin("direct", "collect"),
  init = host.builtin("rsync", "init"),
  full = host.builtin("rsync", "full"),
  prepare = rsync_prepare,
  delay = 1,
  delete = true,
  onMove = true,
  rsyncExitCodes = rsync_codes(),
  rsync = { links = true, times = true, protect_args = true },
  checkgauge = rsync_gauge {
    onMove = true, rsyncExitCodes = true, onCreate = false, onModify = false, onDelete = false, onStartup = false,
  },
  _kind = "direct",
}

-- Excludes and filters ---------------------------------------------------------------------------

local function list_of(value, key)
  if value == nil then return {} end
  if type(value) == "string" then return { value } end
  if type(value) ~= "table" then refuse("type for " .. key .. " must be table or string") end
  local list = {}
  for _, word in ipairs(value) do
    list[#list + 1] = tostring(word)
  end
  return list
end

local function lines_of(file, what)
  local text, cause = host.read(file)
  if not text then refuse('Cannot open ' .. what .. ' file "' .. tostring(file) .. '": ' .. cause) end
  local lines = {}
  for line in (text .. "\n"):gmatch("(.-)\r?\n") do
    line = line:gsub("^%s+", "")
    if line ~= "" and line:sub(1, 1) ~= "#" then lines[#lines + 1] = line end
  end
  return lines
end

local function settle_rules(config)
  local excludes = list_of(config.exclude, "exclude")
  if config.excludeFrom then
    for _, line in ipairs(lines_of(config.excludeFrom, "exclude")) do
      if line:sub(1, 1) ~= "+" then excludes[#excludes + 1] = (line:gsub("^%-%s*", "")) end
    end
  end
  local filters = list_of(config.filter, "filter")
  if config.filterFrom then
    for _, line in ipairs(lines_of(config.filterFrom, "filter")) do
      filters[#filters + 1] = line
    end
  end
  for at, rule in ipairs(filters) do
    if not rule:find("^%s*[+-]%s*%S") then refuse('Unknown filter rule: "' .. rule .. '"') end
    filters[at] = rule:gsub("^%s*([+-])%s*", "%1 ")
  end
  config._excludes, config._filters = excludes, filters
end

-- Tunnels ----------------------------------------------------------------------------------------

local TUNNEL_KEYS = {
  "command", "mode", "parallel", "retryDelay", "readyDelay", "localhost", "checkExitCodes", "checkMaxFailed",
  "checkCommand", "distribution", "name",
}
local tunnels = 0

function tunnel(given)
  if type(given) ~= "table" then refuse("tunnel needs a table") end
  for key in pairs(given) do
    if not table.contains(TUNNEL_KEYS, key) then
      local near = host.nearest(tostring(key), TUNNEL_KEYS)
      refuse('Parameter "tunnel.' .. tostring(key) .. '" unknown.' .. (near and (' ( did you mean "' .. near .. '"? )') or ""))
    end
  end
  if given.command == nil then refuse("tunnel needs a command") end
  local mode = given.mode or "command"
  if mode ~= "command" and mode ~= "pool" then refuse('tunnel.mode must be "command" or "pool"') end
  tunnels = tunnels + 1
  local words = given.command
  if type(words) == "string" then words = { "/bin/sh", "-c", "exec " .. words } end
  return {
    _tunnel = tunnels, command = words, pool = mode == "pool", parallel = given.parallel or 1,
    retryDelay = given.retryDelay or 10, readyDelay = given.readyDelay or 5,
    localhost = given.localhost or "localhost", name = given.name or ("tunnel" .. tunnels),
  }
end

-- Syncs ------------------------------------------------------------------------------------------

local open = true
local cli = {}

local function number_from_zero(config, key)
  local value = config[key]
  if value ~= nil and (type(value) ~= "number" or value < 0 or value ~= value) then
    refuse(key .. " must be a number and >= 0")
  end
end

local ON = { "onCreate", "onModify", "onDelete", "onMove", "onAttrib", "onStartup" }

function sync(block)
  if not open then error("Cannot add syncs while running!", 2) end
  if type(block) ~= "table" then refuse("sync needs a table") end
  local config = {}
  inherit(config, block, 0)
  inherit(config, {
    action = default.action, checkgauge = default.checkgauge, collect = default.collect, delay = default.delay,
    init = default.init, maxDelays = default.maxDelays, maxProcesses = default.maxProcesses,
    prepare = default.prepare,
  }, 0)
  if set.maxDelays ~= nil then config.maxDelays = set.maxDelays end
  if set.maxProcesses ~= nil then
    config._forced_processes = config.maxProcesses == default.maxProcesses or nil
    config.maxProcesses = set.maxProcesses
  end
  if cli.delay ~= nil then config.delay = cli.delay end
  if set.delay ~= nil and block.delay == nil then config.delay = set.delay end
  if type(config.prepare) == "function" then config.prepare(config, 4) end
  if not config.source then refuse("source missing from sync.") end
  local real = host.realdir(config.source)
  if not real then refuse("Cannot access source directory: " .. tostring(config.source)) end
  config._source, config.source = config.source, real
  number_from_zero(config, "delay")
  number_from_zero(config, "maxDelays")
  number_from_zero(config, "maxProcesses")
  for _, key in ipairs(ON) do
    local value = config[key]
    if value and value ~= true and type(value) ~= "function" and type(value) ~= "string" then
      refuse(key .. " must be a string or a function")
    end
  end
  config._engine = config.engine or set.engine or "auto"
  if config._engine ~= "auto" and config._engine ~= "rsync" and config._engine ~= "native" then
    refuse('engine must be "auto", "native" or "rsync", not "' .. tostring(config._engine) .. '"')
  end
  if config.tunnel ~= nil and (type(config.tunnel) ~= "table" or not config.tunnel._tunnel) then
    refuse("tunnel must be made by tunnel{ ... }")
  end
  if config.crontab ~= nil and type(config.crontab) ~= "table" then refuse("crontab must be a list of patterns") end
  number_from_zero(config, "batchSizeLimit")
  if config.monitor ~= nil and config.monitor ~= "inotify" then
    refuse('event monitor "' .. tostring(config.monitor) .. '" unknown.')
  end
  settle_rules(config)
  config.monitor = "inotify"
  host.sync(config)
  return config
end

-- What the program calls.
return {
  settings = set,
  options = function(delay)
    cli.delay = delay
  end,
  close = function()
    open = false
  end,
  lock = function()
    locked = true
  end,
  cli_sync = function(layer, source, first, second, extra)
    local block = { default[layer], source = source }
    if layer == "rsyncssh" then
      block.host, block.targetdir = first, second
      if extra then block.ssh = { _extra = extra } end
    else
      block.target = first
    end
    sync(block)
  end,
}
