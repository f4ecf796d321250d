-- A whole web root, pushed to a server by deployments: few changes, many files at once.
--
-- Owners differ between the hosts, so everything belongs to the web server's user there, and the
-- link is shared with visitors, so speil leaves room for them.

settings {
  logfile = "/var/log/speil.log",
  statusFile = "/run/speil/status",
  statusInterval = 60,
}

sync {
  default.mirror,
  name = "site",
  source = "/srv/www/site/",
  target = "www.example.org:/srv/www/site/",

  -- A deployment rewrites files in quick succession: wait until a file is quiet for half a second,
  -- but no longer than ten.
  delay = "500ms",
  maxDelay = "10s",

  -- First match wins. What is protected (P) stays on the target though the source lacks it.
  filter = { "P /.well-known/acme-challenge/", "- .git/", "- node_modules/", "- *.swp" },

  -- On the server the files belong to the web server. Setting an owner needs root there.
  chown = "www-data:www-data",
  chmod = { "D755", "F644" },
  agent = { "sudo", "-n" },

  bwlimit = "20M",

  -- Twice an hour speil compares both sides, whatever it believes to know; `speil reconcile site`
  -- does so now. verify = "checksum" reads every byte.
  reconcile = { interval = "30m", verify = "quick" },
}
