-- covers: own tables
-- start: 2
-- native: dir = "/one" => dir = "@/t/1"
-- native: dir = "/two" => dir = "@/t/2"
-- native: _extra = { "--base" } => _extra = { "--stats" }
-- native: _extra = { "--own" } => _extra = { "--partial" }
-- targets: t/1 t/2
-- edit: touch aa bb c
-- calls: 4
-- fence: 2
local base = { delay = 5, exclude = { "bb" }, rsync = { archive = true, _extra = { "--base" } } }
local hosts = { { host = "h1", dir = "/one" }, { host = "h2", dir = "/two" } }
for _, entry in pairs(hosts) do
  sync { default.rsync, base, source = "@/s", target = entry.host .. ":" .. entry.dir, exclude = { "aa" }, rsync = { _extra = { "--own" } } }
end
