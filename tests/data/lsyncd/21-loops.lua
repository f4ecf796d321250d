-- covers: for loops, more than one sync, own tables, concatenation
-- start: 3
-- native: web1:/srv => web1:@/t/1
-- native: web2:/srv/ => web2:@/t/2/
-- native: [::1]:/srv => [::1]:@/t/3
-- native: , rsync = { _extra = { "--port=" .. 870 + number } } => 
-- targets: t/1 t/2 t/3
-- edit: touch n
-- calls: 6
-- fence: 3
local targets = { "web1:/srv", "web2:/srv/", "[::1]:/srv" }
for number, target in ipairs(targets) do
  sync { default.rsync, source = "@/s", target = target, delay = number, rsync = { _extra = { "--port=" .. 870 + number } } }
end
