-- setup: touch 's/[gone]'; mkdir -p 's/d?r/in'
-- native: @/s => @/s
-- edit: touch 'a*b' 'q?' '[x]' 'back\slash' 'sp ace' "quo'te" '#hash' ./-dash; rm '[gone]'; rm -r 'd?r'
-- calls: 2
sync { default.rsync, source = "@/s", target = "@/t" }
