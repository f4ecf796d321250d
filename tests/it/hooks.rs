//! Hooks in Lua: what they hear, and that they hold nothing up.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::service::block;
use crate::support::command::{Background, Environment, eventually};

struct Setup {
    env: Environment,
    dir: TempDir,
}

impl Setup {
    /// `settings` may name the file `OUT`, to which hooks write.
    fn new(settings: &str) -> Self {
        let setup = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(setup.path("source")).unwrap();
        let helper = format!(
            "local function say(...) local f = io.open({:?}, 'a'); f:write(table.concat({{...}}, ' '), '\\n'); f:close() end\n",
            setup.path("out")
        );
        let text = helper + settings + "\n" + &block("www", &setup.path("source"), &setup.path("standby"));
        fs::write(setup.path("speil.lua"), text).unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> String {
        format!("--control={}", self.path("control").display())
    }

    fn start(&self) -> Background {
        let daemon = self.env.spawn(["run", &self.control(), &self.path("speil.lua").display().to_string()]);
        daemon.wait_for_error_line(": live");
        daemon
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap_or_default()
    }
}

#[test]
fn hooks_hear_states_batches_problems_and_held_deletes() {
    let setup = Setup::new(
        "settings {\n\
         onState = function(s, t, old, new) say('state', s, t, old, new) end,\n\
         onBatch = function(s, t, b) say('batch', s, t, b.changes > 0 and b.batch > 0 and 'ok') end,\n\
         onProblem = function(s, t, p) say('problem', s, t, p.path, p.errno, tostring(p.onTarget)) end,\n\
         onHeld = function(s, t, h) say('held', s, t, h.count, h.reason) end,\n}",
    );
    for number in 0..150 {
        fs::write(setup.path("source").join(number.to_string()), "x").unwrap();
    }
    let daemon = setup.start();
    eventually("it is live", || setup.said().contains("state www standby first_pass live"));
    assert!(setup.said().contains("state www standby connecting first_pass"), "{}", setup.said());
    eventually("a batch", || setup.said().contains("batch www standby ok"));
    for number in 0..140 {
        fs::remove_file(setup.path("source").join(number.to_string())).unwrap();
    }
    // A burst that comes slowly is told in more than one piece.
    let held = || {
        let said = setup.said();
        let counts = said.lines().filter_map(|line| line.strip_prefix("held www standby "));
        counts.filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok()).max()
    };
    eventually("deletes are held", || held().is_some());
    assert!(held().is_some_and(|count| (10..=140).contains(&count)), "{}", setup.said());
    let _ = setup.env.run(["pause", &setup.control()]).succeeded();
    eventually("it is paused", || setup.said().contains("state www standby live paused"));
    let _ = setup.env.run(["resume", &setup.control()]).succeeded();
    eventually("it goes on", || setup.said().contains("state www standby paused live"));
    daemon.terminate();
}

#[test]
fn a_hook_hears_of_the_role_at_the_start_and_of_each_change() {
    let setup = Setup::new(
        "settings { onRole = function(s, r) say('role', s, r.old, r.new, math.type(r.generation), r.generation) end }",
    );
    let daemon = setup.start();
    let root = setup.path("source").display().to_string();
    let said = |line: &str| eventually(line, || setup.said().lines().any(|said| said == line));
    setup.env.run(["promote", "--force", "--root", &root]).succeeded();
    said("role www none primary integer 1");
    daemon.wait_for_error_line("www: the tree is primary, generation 1");
    setup.env.run(["demote", "--root", &root]).succeeded();
    said("role www primary standby integer 1");
    daemon.terminate();
    let daemon = setup.env.spawn(["run", &setup.control(), &setup.path("speil.lua").display().to_string()]);
    said("role www none standby integer 1");
    daemon.terminate();
    assert_eq!(setup.said().lines().count(), 3, "{}", setup.said());
}

#[test]
fn a_hook_that_hangs_is_told_of_and_the_mirror_goes_on() {
    let setup =
        Setup::new("settings { hookTimeout = 0.2, onBatch = function() os.execute('sleep 300') end }");
    fs::write(setup.path("source/first"), "x").unwrap();
    let daemon = setup.start();
    daemon.wait_for_error_line("hook onBatch has not come back");
    for number in 0..400 {
        fs::write(setup.path("source").join(number.to_string()), "x").unwrap();
    }
    let _ = setup.env.run(["wait", &setup.control()]).succeeded();
    assert!(setup.path("standby/399").exists());
    daemon.terminate();
}

#[test]
fn a_hook_that_never_ends_in_lua_is_ended_and_the_next_one_is_called() {
    let setup = Setup::new(
        "settings { hookTimeout = 0.2,\n\
         onState = function(s, t, old, new) if new == 'live' then while true do end end say(new) end,\n\
         onBatch = function() say('batch') end }",
    );
    let daemon = setup.start();
    daemon.wait_for_error_line("it ran for too long and was ended");
    fs::write(setup.path("source/file"), "x").unwrap();
    eventually("the next hook", || setup.said().contains("batch"));
    daemon.terminate();
}

#[test]
fn a_command_of_a_hook_gets_its_input_and_is_killed_when_it_hangs() {
    let setup = Setup::new(
        "settings { hookTimeout = 1,\n\
         onState = function(s, t, old, new)\n\
           if new == 'live' then\n\
             local code = speil.command({ 'sh', '-c', 'cat; exit 3' }, 'text')\n\
             local none, why = speil.command({ 'sleep', '300' })\n\
             say(tostring(code), tostring(none), why)\n\
           end\n\
         end }",
    );
    let daemon = setup.start();
    eventually("both ended", || setup.said().contains("3 nil sleep: it ran for too long and was killed"));
    daemon.terminate();
}

#[test]
fn a_hook_that_is_no_function_is_refused() {
    let setup = Setup::new("settings { onState = 'mail root' }");
    let outcome = setup.env.run(["run", &setup.control(), &setup.path("speil.lua").display().to_string()]);
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("onState") && outcome.stderr.contains("a function"), "{outcome:?}");
}
