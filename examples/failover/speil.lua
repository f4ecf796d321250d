-- The same file on each of the three hosts, as /etc/speil/speil.lua: a host's targets are the others. Which of them
-- sends is decided by the roles of the trees: docs/failover.md.

local hosts = { "oslo", "bergen", "tromso" }

local here = assert(io.open("/etc/hostname")):read("l"):match("^[^.]+")
local targets = {}
for _, host in ipairs(hosts) do
  if host ~= here then
    targets[#targets + 1] = "root@" .. host .. ":/srv/uploads/"
  end
end

sync {
  default.mirror,
  name = "uploads",
  source = "/srv/uploads/",
  targets = targets,
  ssh = { identityFile = "/etc/speil/id_ed25519" },
}
