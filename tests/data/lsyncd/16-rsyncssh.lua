-- covers: default.rsyncssh, host, targetdir, ssh={}, insist
-- native: "/var/www/" => "@/t/"
-- edit: echo 1 > f; mkdir d
-- calls: 2
-- edit: mv f g
-- calls: 3
-- edit: mv a b
-- calls: 4
settings { insist = 1 }
sync {
  default.rsyncssh,
  source = "@/s", host = "deploy@10.8.0.2", targetdir = "/var/www/",
  rsync = { archive = true, compress = false, whole_file = true },
  ssh = { port = 2222, identityFile = "/root/.ssh/key", options = { StrictHostKeyChecking = "no" } },
}
