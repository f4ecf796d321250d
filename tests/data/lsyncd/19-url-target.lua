-- covers: rsync:// target, password_file
-- edit: touch n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "rsync://user@10.0.0.1/module/",
  rsync = { password_file = "/etc/rsync.secret", archive = true },
}
