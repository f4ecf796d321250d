-- covers: terminate
-- start: 0
-- edit: mkdir d
-- fence: 0
-- exit: 7
sync {
  source = "@/s",
  onCreate = function(event)
    log("Normal", "that is enough")
    terminate(7)
  end,
}
