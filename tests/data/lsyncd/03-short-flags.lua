-- covers: acls, checksum, copy_links, group, owner, perms, links, sparse, update, whole_file, xattrs
-- edit: echo 1 > n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "host:dir",
  rsync = {
    acls = true, checksum = true, compress = true, copy_links = true, executability = true, group = true,
    hard_links = true, ignore_times = true, ipv4 = true, links = true, one_file_system = true, owner = true,
    perms = true, prune_empty_dirs = true, quiet = true, sparse = true, times = true, update = true,
    verbose = true, whole_file = true, xattrs = true, keep_dirlinks = true, cvs_exclude = true,
    copy_dirlinks = true, omit_dir_times = true, omit_link_times = true, backup = true,
  },
}
