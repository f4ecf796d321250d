-- setup: ln -s s link
-- native: "@/t" => "@/t"
-- edit: ln -s nowhere l; touch n; ln n hard
-- calls: 2
sync { default.rsync, source = "link", target = "@/t" }
