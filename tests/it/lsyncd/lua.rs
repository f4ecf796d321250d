//! What lsyncd's Lua has under its names: the same program says the same in both.

use std::process::Command;

use super::scene::Scene;
use crate::support::command::SPEIL;

/// Runs a configuration that ends itself in both programs and returns what each printed.
fn said_by_both(text: &str) -> Option<[String; 2]> {
    if !std::path::Path::new("/usr/bin/lsyncd").exists() {
        return None;
    }
    let scene = Scene::new();
    let file = scene.configure(text);
    let run = |mut command: Command| {
        let output = command.arg("-nodaemon").arg(&file).env("PATH", "/usr/bin:/bin").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        // Their own lines begin with the time.
        said.lines()
            .filter(|line| !line.contains(" Normal: "))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let mut speil = scene.environment.command(SPEIL);
    speil.arg("lsyncd");
    Some([run(scene.environment.command("/usr/bin/lsyncd")), run(speil)])
}

const BITS: &str = "
    local function p(...)
      local words = { ... }
      for at = 1, select('#', ...) do words[at] = tostring(words[at]) end
      print(table.concat(words, ' '))
    end
    p(bit32.band(), bit32.band(0xff, 0x0f), bit32.bor(1, 2, 4), bit32.bxor(5, 3, 1), bit32.bnot(0), bit32.bnot(5))
    p(bit32.btest(1, 2), bit32.btest(3, 2), bit32.band(-1), bit32.band(2 ^ 40 + 5), bit32.band(3.0))
    for _, number in ipairs { 0, 1, 5, 0x80000001, 0xdeadbeef, -1, -8, 2 ^ 33 } do
      for places = -40, 40 do
        p(bit32.lshift(number, places), bit32.rshift(number, places), bit32.arshift(number, places),
          bit32.lrotate(number, places), bit32.rrotate(number, places))
      end
      for at = 0, 31 do
        for width = 1, 32 - at do
          p(bit32.extract(number, at, width), bit32.replace(number, 0x5a5a5a5a, at, width))
        end
        p(bit32.extract(number, at), bit32.replace(number, 1, at))
      end
    end
    p(pcall(bit32.extract, 1, 31, 2), pcall(bit32.extract, 1, -1), (pcall(bit32.replace, 1, 1, 0, 33)))
    p(debug.getinfo(1, 'l').currentline, debug.getinfo(1, 'S').short_src:match('[^/]*$'), debug.getinfo(99))
    p((debug.traceback('x'):match('^x\\nstack traceback:')))
    os.exit(0)";

#[test]
fn bits_and_places_are_told_as_in_lsyncd() {
    let Some([lsyncd, speil]) = said_by_both(BITS) else { return };
    assert!(lsyncd.lines().count() > 5000);
    for (at, (one, two)) in lsyncd.lines().zip(speil.lines()).enumerate() {
        assert_eq!(one, two, "line {at}");
    }
    assert_eq!(lsyncd, speil);
}

/// Functions of a configuration see the name that its sync got, the programs, and the words that they are called with.
const SEEN: &str = "
    local function sorted(words)
      local letters = {}
      for at, word in ipairs(words) do
        local flags = {}
        if word:match('^%-%a+$') then
          for letter in word:gmatch('%a') do flags[#flags + 1] = letter end
          table.sort(flags)
          word = '-' .. table.concat(flags)
        end
        letters[at] = word
      end
      return table.concat(letters, ' ')
    end
    print(default.rsyncExitCodes[24], default.rsyncExitCodes[255], default.sshExitCodes[0], default.sshExitCodes[255])
    local seen = 0
    local function show(event)
      local config = event.config
      print(config.name, config.monitor, config.rsync.binary, sorted(config.rsync._computed))
      if config.ssh then print(config.ssh.binary, table.concat(config.ssh._computed, ' ')) end
      event.inlet.discardEvent(event)
      seen = seen + 1
      if seen == 3 then os.exit(0) end
    end
    sync { default.rsync, source = '@/s', target = '@/t', init = show }
    sync { default.rsync, source = '@/s', target = '@/t', init = show,
      prepare = function(config, level)
        default.rsync.prepare(config, level)
        print(config.name, config.rsync.binary, sorted(config.rsync._computed))
        config.rsync._computed[1] = '-a'
      end,
      rsync = { archive = true, compress = true, binary = '/usr/local/bin/rsync', bwlimit = 3, _extra = { '--one' } } }
    sync { default.rsyncssh, source = '@/s', host = 'h', targetdir = '/x', init = show,
      rsync = { bwlimit = 3 }, ssh = { port = 22, identityFile = '/k', options = { A = 'b' } } }";

#[test]
fn functions_see_names_programs_and_words_as_in_lsyncd() {
    let Some([lsyncd, speil]) = said_by_both(SEEN) else { return };
    assert_eq!(lsyncd.lines().count(), 6, "{lsyncd}");
    assert_eq!(lsyncd, speil);
}
