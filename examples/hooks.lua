-- Telling people and machines: mail when a standby goes down or deletes are held, a webhook for
-- everything that changes its state.
--
-- Hooks are called on a thread of their own. They cannot hold the mirror up: a call may take
-- hookTimeout, what waits too long is left out and counted, a flood is thinned out (`skipped` says how
-- many calls were left out before this one). speil.command runs a program without a shell, with the
-- second argument as its standard input, and returns its exit code.

local admin = "root"
local webhook = "https://chat.example.org/hooks/speil"

local function mail(subject, text)
  speil.command({ "mail", "-s", "speil: " .. subject, admin }, text .. "\n")
end

-- A text as a JSON string.
local function json(text)
  text = text:gsub('[%c"\\\127-\255]', function(c)
    return string.format("\\u%04x", c:byte())
  end)
  return '"' .. text .. '"'
end

local function post(text)
  speil.command({
    "curl", "--silent", "--max-time", "5", "--header", "Content-Type: application/json",
    "--data-binary", "@-", webhook,
  }, '{"text": ' .. json(text) .. "}")
end

settings {
  hookTimeout = "10s",

  -- States: connecting, first_pass, live, down, paused.
  onState = function(sync, target, old, new)
    post(sync .. " -> " .. target .. ": " .. old .. ", now " .. new)
    if new == "down" then
      mail(target .. " is down", sync .. " cannot reach " .. target .. "; speil keeps retrying.")
    end
  end,

  -- Where several hosts hold one tree: old and new are none, primary or standby.
  onRole = function(sync, role)
    if role.old ~= role.new then
      mail(sync .. " is " .. role.new, "It was " .. role.old .. "; generation " .. role.generation .. ".")
    end
  end,

  onHeld = function(sync, target, held)
    mail(held.count .. " deletes held", held.reason .. "\nspeil approve " .. sync .. " " .. target)
  end,

  onProblem = function(sync, target, problem)
    post(sync .. " -> " .. target .. ": " .. problem.operation .. " " .. problem.path .. ": " .. problem.error)
  end,
}

sync {
  default.mirror,
  source = "/srv/uploads/",
  target = "root@standby:/srv/uploads/",
}
