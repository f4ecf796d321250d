-- One source, two standbys: one in the rack, one in another town.
--
-- Each target has a queue of its own. If one is slow or down, the other does not notice; the one that
-- comes back is brought up to date by itself.

settings {
  logfile = "/var/log/speil.log",
  statusFile = "/run/speil/status",
  control = "/run/speil/control",
}

-- This file is a program: names for what is used twice.
local dir = "/var/lib/app/uploads/"

sync {
  default.mirror,
  source = dir,
  targets = {
    "standby1:" .. dir,
    "deploy@standby2.example.net:" .. dir,
  },

  -- Before a standby says "done", the files are on its disk, each before its name changes.
  durability = "file",

  -- Hard links, ACLs and extended attributes are kept unless you say otherwise.
  acls = false,

  -- Give a standby up that is silent for half a minute, and try again.
  timeout = "30s",

  ssh = {
    port = 2222,
    identityFile = "/etc/speil/id_ed25519",
    -- Accept the key of a new host once; refuse a changed one.
    options = { StrictHostKeyChecking = "accept-new", ConnectTimeout = 10 },
  },
}
