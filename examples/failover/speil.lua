-- The same file on each of the three hosts, as /etc/speil/speil.lua. A host finds itself by its name, and mirrors to the
-- others while its tree is the primary: docs/failover.md.

sync {
  default.mirror,
  name = "uploads",
  source = "/srv/uploads/",
  hosts = { oslo = "root@oslo", bergen = "root@bergen", tromso = "root@tromso" },
  ssh = { identityFile = "/etc/speil/id_ed25519" },
}
