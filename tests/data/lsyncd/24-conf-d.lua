-- covers: conf.d, io.popen, io.open, os.execute
-- setup: mkdir conf.d; printf 'one\ntwo\n' > hosts
-- setup: printf 'sync { default.rsync, source = "%s/s", target = "h:%s/x", delay = 3 }\n' "$PWD" "$PWD" > conf.d/x.lua
-- start: 3
-- native: :/t" => :@/t" .. (line == "one" and 1 or 2)
-- targets: t1 t2 x
-- edit: touch n
-- calls: 6
-- fence: 3
local list = io.popen("ls @/conf.d/*.lua")
for file in list:lines() do
  dofile(file)
end
list:close()
local hosts = io.open("@/hosts", "r")
for line in hosts:lines() do
  sync { default.rsync, source = "@/s", target = line .. ":/t" }
end
hosts:close()
os.execute("touch @/t/seen")
