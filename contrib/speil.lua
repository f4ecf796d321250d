-- /etc/speil/speil.lua: what `systemctl start speil` mirrors. docs/configuration.md has every
-- key; `speil check /etc/speil/speil.lua` explains it in plain English, `speil doctor` says whether it will
-- work.

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
