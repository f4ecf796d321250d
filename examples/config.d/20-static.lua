-- What deployments write: no hurry, and the link belongs to the uploads.

for _, app in ipairs { "shop", "forum" } do
  local dir = "/srv/" .. app .. "/static/"
  sync {
    default.mirror,
    house,
    name = app .. "-static",
    source = dir,
    targets = on_standbys(dir),
    delay = 5,
    bwlimit = "5M",
  }
end
