-- native: @/s => @/s
-- edit: echo 1 > n
-- calls: 2
sync {
  default.rsync, source = "@/s", target = "@/t", delete = "running", exclude = "*.tmp",
  rsync = {
    archive = true, acls = true, xattrs = true, hard_links = true, whole_file = true, sparse = true,
    checksum = true, one_file_system = true, bwlimit = 90000, timeout = 60, verbose = true, prune_empty_dirs = false,
    _extra = { "--numeric-ids", "--omit-link-times", "--partial", "--exclude=*.no" },
  },
}
