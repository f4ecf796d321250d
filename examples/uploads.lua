-- An upload directory, kept live on one hot standby.
--
--   speil check examples/uploads.lua      explains it in plain English
--   speil run examples/uploads.lua        does it
--
-- A file that is uploaded here appears on the standby within milliseconds, complete or not at all.

settings {
  logfile = "/var/log/speil.log",
  statusFile = "/run/speil/status",
}

sync {
  default.mirror,

  -- The directory here, and the one that becomes its mirror. The standby is reached with the ssh of
  -- the user who runs speil: its keys, its known_hosts, its ~/.ssh/config.
  source = "/var/www/html/uploads/",
  target = "deploy@10.8.0.2:/var/www/html/uploads/",

  -- What PHP and the web server write while an upload is under way.
  exclude = { "*.tmp", "*.part", "/cache/" },

  -- What is deleted here is deleted there; but if more than a tenth is deleted at once, the deletes are held
  -- until you say `speil approve uploads`.
  delete = true,
  maxDelete = "10%",

  ssh = {
    identityFile = "/etc/speil/id_ed25519",
  },
}
