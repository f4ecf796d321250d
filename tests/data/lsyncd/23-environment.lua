-- covers: os.getenv, logident, logfacility
-- edit: touch n
-- calls: 2
local root = os.getenv("PWD") or "@"
local where = string.format("%s/%s", "@/s", "")
local half = 10 / 2
settings { logident = "mirror", logfacility = "daemon" }
sync {
  default.rsync, source = where, target = "h:/" .. (os.getenv("LC_ALL") or "none") .. "/" .. half,
  rsync = { bwlimit = half, timeout = 2^3 },
}
