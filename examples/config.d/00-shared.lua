-- Shared by all files of this directory: speil reads them in the order of their names, as one
-- program, so what is defined here is known in the files after it.
--
--   speil check examples/config.d
--   speil run examples/config.d

settings {
  logfile = "/var/log/speil.log",
  statusFile = "/run/speil/status",
}

-- The standbys of every application. Another host is one more line here, and nowhere else.
standbys = {
  "standby1.example.net",
  "standby2.example.net",
}

-- What all syncs have in common. A sync that names this table takes from it every key that it does
-- not give itself; lists such as `exclude` are appended to its own.
house = {
  exclude = { "*.tmp", ".nfs*", "lost+found/" },
  maxDelete = 1000,
  ssh = { identityFile = "/etc/speil/id_ed25519" },
}

-- Returns the same directory on every standby.
function on_standbys(dir)
  local targets = {}
  for _, host in ipairs(standbys) do
    targets[#targets + 1] = host .. ":" .. dir
  end
  return targets
end
