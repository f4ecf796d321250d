-- covers: default.direct
-- native: @/s => @/s
-- edit: echo 1 > f; mkdir d; echo 2 > d/g
-- until: test -e t/f && test -e t/d/g
-- edit: mv d e; rm f
-- until: test -e t/e/g && test ! -e t/f && test ! -e t/d
-- fence: 0
-- native-differs: symlinks, modes and owners in `default.direct`
sync { default.direct, source = "@/s", target = "@/t", delete = true }
