-- covers: bwlimit, chown, inplace, rsync_path
-- edit: echo 1 > n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "backup@host:/srv/",
  rsync = {
    bwlimit = 2000, chmod = "D755,F644", chown = "www-data:www-data", timeout = 30, temp_dir = "/tmp",
    rsync_path = "sudo rsync", suffix = "~", backup_dir = "old", existing = true, inplace = true,
    usermap = "a:b", groupmap = "c:d", append = true, append_verify = true,
  },
}
