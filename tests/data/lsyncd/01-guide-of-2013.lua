-- covers: source, logfile, statusFile, rsync={}, rsync.compress, rsync.archive, verbose, rsync.rsh, target, host:path target, default.rsync
-- native: root@192.168.1.10:/var/www/html/ => root@192.168.1.10:@/t/
-- native: /usr/bin/ssh => @/here/ssh
-- edit: echo 1 > n; mkdir -p d/e; echo 1 > d/e/f
-- calls: 2
settings {
    logfile = "@/lsyncd.log",
    statusFile = "@/lsyncd.status"
}
sync {
    default.rsync,
    source = "@/s/",
    target = "root@192.168.1.10:/var/www/html/",
    rsync = {
        compress = true,
        archive = true,
        verbose = true,
        rsh = "/usr/bin/ssh -p 22 -o StrictHostKeyChecking=no"
    }
}
