-- covers: os.getenv, logident, logfacility
-- setup: mkdir -p t/C
-- native: h:/ => h:@/t/
-- targets: t/C/5.0
-- edit: touch n
-- calls: 2
local root = os.getenv("PWD") or "@"
local where = string.format("%s/%s", "@/s", "")
local half = 10 / 2
settings { logident = "mirror", logfacility = "daemon" }
sync {
  default.rsync, source = where, target = "h:/" .. (os.getenv("LC_ALL") or "none") .. "/" .. half,
  rsync = { bwlimit = half * 1000, timeout = 30 },
}
