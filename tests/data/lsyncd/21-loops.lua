-- covers: for loops, more than one sync, own tables, concatenation
-- start: 3
-- edit: touch n
-- calls: 6
-- fence: 3
local targets = { "web1:/srv", "web2:/srv/", "[::1]:/srv" }
for number, target in ipairs(targets) do
  sync { default.rsync, source = "@/s", target = target, delay = number, rsync = { _extra = { "--port=" .. 870 + number } } }
end
