-- /etc/speil/speil.lua: what `systemctl start speil` mirrors. README.md tells every key;
-- `speil check /etc/speil/speil.lua` says in plain words what it comes to, `speil doctor` whether it
-- will work.

-- settings {
--   statusFile = "/run/speil/status",
-- }

-- sync {
--   default.mirror,
--   source = "/srv/uploads/",
--   targets = { "root@standby:/srv/uploads/" },
--   exclude = { "*.tmp", "*.part" },
--   ssh = { identityFile = "/etc/speil/id_ed25519" },
-- }
