-- The uploads of every application: live, and deletes are held back if they are many.

for _, app in ipairs { "shop", "forum", "wiki" } do
  local dir = "/srv/" .. app .. "/uploads/"
  sync {
    default.mirror,
    house,
    name = app .. "-uploads",
    source = dir,
    targets = on_standbys(dir),
    exclude = { "/incoming/" },
  }
end
