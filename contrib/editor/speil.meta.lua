---@meta
-- What a configuration of speil may say, for editors with the Lua language server: add the directory of this
-- file to `workspace.library` in .luarc.json. docs/configuration.md explains each key.

---@alias speil.duration string|number a number of seconds, or "500ms", "30s", "15m", "1h30m", "7d"
---@alias speil.size string|number bytes, or "20M", "1.5G"
---@alias speil.patterns string|string[]

---@class speil.http
---@field listen string "HOST:PORT"
---@field token? string 16 characters or more
---@field tokenFile? string

---@class speil.agentCheck
---@field listen string "HOST:PORT"
---@field target? string
---@field maxLag? speil.duration
---@field downLag? speil.duration

---@class speil.role
---@field old "none"|"primary"|"standby"
---@field new "none"|"primary"|"standby"
---@field generation integer 0 for none

---@class speil.notify
---@field mail? string|string[]
---@field webhook? string "https://…"
---@field command? string|string[] reads the message on standard input
---@field after? speil.duration
---@field maxLag? speil.duration

---@class speil.batch
---@field batch integer
---@field changes integer
---@class speil.problem
---@field path string
---@field operation string
---@field error string
---@field errno string
---@field onTarget boolean
---@class speil.held
---@field count integer
---@field reason string

---@class speil.settings
---@field logfile? string
---@field pidfile? string
---@field logFormat? "human"|"json"|"syslog"
---@field logident? string
---@field logfacility? string
---@field statusFile? string
---@field statusInterval? speil.duration
---@field statusIntervall? speil.duration lsyncd's old spelling
---@field allowTargets? string[]
---@field control? string|{ path: string, group: string }
---@field http? string|speil.http
---@field agentCheck? speil.agentCheck|speil.agentCheck[]
---@field onState? fun(sync: string, target: string, old: string, new: string)
---@field onRole? fun(sync: string, role: speil.role)
---@field onBatch? fun(sync: string, target: string, batch: speil.batch)
---@field onProblem? fun(sync: string, target: string, problem: speil.problem)
---@field onHeld? fun(sync: string, target: string, held: speil.held)
---@field history? speil.size|false
---@field notify? speil.notify|false
---@field hookTimeout? speil.duration
---@field host? string which key of a sync's `hosts` means this host; else by its name
---@field nodaemon? any lsyncd's
---@field insist? any lsyncd's
---@field onepass? any lsyncd's
---@field inotifyMode? any lsyncd's; without a meaning here
---@field maxDelays? any lsyncd's; without a meaning here
---@field maxProcesses? any lsyncd's; without a meaning here

---@class speil.ssh
---@field port? integer
---@field identityFile? string
---@field options? table<string, string|number|boolean>
---@field extra? string[]
---@field _extra? string[] lsyncd's name for `extra`
---@field command? string|string[]

---@class speil.host
---@field [1] string "user@host", or "user@host:/dir/"
---@field mayLead? boolean

---@class speil.sync
---@field name? string
---@field source string an absolute path
---@field target? string "host:/dir/", "user@host:/dir/" or "/dir/"
---@field targets? string[]
---@field targetsFile? string a file with a target in each line, in place of targets
---@field hosts? table<string, string|speil.host> all hosts that hold the tree, in place of targets: { oslo = "root@10.8.0.1" }
---@field filter? speil.patterns
---@field include? speil.patterns
---@field exclude? speil.patterns
---@field excludeFrom? speil.patterns
---@field oneFileSystem? boolean
---@field update? boolean
---@field existing? boolean
---@field ignoreExisting? boolean
---@field sizeOnly? boolean
---@field maxSize? speil.size|false
---@field minSize? speil.size|false
---@field modifyWindow? speil.duration
---@field perms? boolean
---@field owner? boolean
---@field group? boolean
---@field numericIds? boolean
---@field times? boolean
---@field dirTimes? boolean
---@field linkTimes? boolean
---@field symlinks? boolean
---@field hardLinks? boolean
---@field devices? boolean
---@field specials? boolean
---@field xattrs? boolean
---@field privilegedXattrs? boolean
---@field acls? boolean
---@field chmod? string|string[]
---@field chown? string
---@field usermap? string "FROM:TO,…"
---@field groupmap? string "FROM:TO,…"
---@field delete? boolean|"startup"|"running"
---@field deleteExcluded? boolean
---@field deleteGuard? boolean
---@field maxDelete? integer|string
---@field trash? boolean|{ keep: speil.duration, max: speil.size }
---@field delay? speil.duration
---@field maxDelay? speil.duration
---@field maxOpen? speil.duration
---@field reconcile? { interval: speil.duration|"never", verify: "quick"|"stamps"|"checksum" }
---@field scrub? "off"|"report"|"repair"|{ mode: string, interval: speil.duration, rate: speil.size }
---@field timeout? speil.duration
---@field watch? "auto"|"inotify"|"fanotify"|"poll"|"notify"
---@field pollInterval? speil.duration
---@field durability? "batch"|"file"|"none"
---@field compress? boolean|"auto"|"always"|"never"
---@field bwlimit? speil.size|false|table<integer|string, speil.size|false> or by hours: { "50M", ["mon-fri 08:00-18:00"] = "5M" }
---@field connections? integer
---@field wholeFile? boolean
---@field sparse? boolean
---@field transport? "ssh"|"ssh2"
---@field ssh? speil.ssh
---@field agent? "auto"|"path"|"deploy"|string|string[]
---@field forceRoot? boolean

---@param settings speil.settings
function settings(settings) end

---@param sync speil.sync|table
function sync(sync) end

---Layers to inherit from: `sync { default.mirror, source = …, target = … }`.
default = { mirror = {}, rsync = {}, rsyncssh = {}, direct = {} }

speil = {}

---Runs a program without a shell, with `input` as its standard input; returns its exit code.
---@param words string[]
---@param input? string
---@return integer
function speil.command(words, input) end
