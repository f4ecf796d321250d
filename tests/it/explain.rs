//! `speil explain`: which rule, which event, which batch, which problem.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::command::{Background, Environment, agent_command, eventually};

struct Setup {
    env: Environment,
    dir: TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(setup.path("source/cache")).unwrap();
        fs::write(setup.path("rules.txt"), "# what is made anew\n/cache/\n").unwrap();
        let text = format!(
            "sync {{\n  default.mirror, name = \"www\", source = {:?}, target = {:?}, agent = {:?},\n  \
             exclude = \"*.tmp\", excludeFrom = \"rules.txt\" }}\n",
            setup.path("source"),
            setup.path("standby"),
            agent_command()
        );
        fs::write(setup.path("speil.lua"), text).unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self) -> Background {
        let daemon = self.env.spawn(["run", &self.control(), &self.path("speil.lua").display().to_string()]);
        daemon.wait_for_error_line(": live");
        daemon
    }

    fn control(&self) -> String {
        format!("--control={}", self.path("control").display())
    }

    fn explain(&self, path: &str) -> String {
        self.env.run(["explain", &self.control(), "www", path]).succeeded().stdout
    }
}

#[test]
fn a_rule_is_told_with_the_line_where_it_was_written_without_a_daemon() {
    let setup = Setup::new();
    let config = format!("--config={}", setup.path("speil.lua").display());
    let explain = |path: &str| setup.env.run(["explain", &config, "www", path]).succeeded().stdout;
    let told = explain("a/b.tmp");
    assert!(told.contains("no part of the mirror: the filter rule \"- *.tmp\" keeps it out"), "{told}");
    assert!(told.contains("speil.lua:1, exclude"), "{told}");
    let told = explain(&setup.path("source/cache/deep/file").display().to_string());
    assert!(told.contains("keeps \"cache\" out") && told.contains("rules.txt:2"), "{told}");
    let told = explain("page.html");
    assert!(told.contains("part of the mirror, according to the configuration"), "{told}");
    assert!(told.contains("no rule matches it"), "{told}");
    assert_eq!(setup.env.run(["explain", &config, "other", "x"]).code(), 1);
    assert_eq!(setup.env.run(["explain", &config, "www", "/etc/passwd"]).code(), 1);
}

#[test]
fn the_daemon_tells_the_last_event_and_the_batch_that_brought_a_path() {
    let setup = Setup::new();
    let daemon = setup.start();
    fs::write(setup.path("source/page.html"), "hello").unwrap();
    eventually("it is there", || setup.path("standby/page.html").exists());
    eventually("its batch is acknowledged", || setup.explain("page.html").contains("sent in batch"));
    let told = setup.explain("page.html");
    assert!(told.contains("mirrored; nothing of it is due on any target"), "{told}");
    assert!(told.contains("a file of 5 bytes") && told.contains("closed after writing"), "{told}");
    let told = setup.explain("cache/x");
    assert!(told.contains("no part of the mirror"), "{told}");
    let unknown = setup.env.run(["explain", &setup.control(), "nosuch", "x"]);
    assert_eq!(unknown.code(), 1, "{unknown:?}");
    daemon.terminate();
}

#[test]
fn a_path_that_fails_is_told_with_its_problem() {
    let setup = Setup::new();
    let daemon = setup.start();
    // A directory that holds something of the target's own cannot make room for a file.
    fs::create_dir(setup.path("standby/taken")).unwrap();
    fs::write(setup.path("standby/taken/keep.tmp"), "excluded here, so protected there").unwrap();
    fs::write(setup.path("source/taken"), "x").unwrap();
    eventually("it is a problem", || setup.explain("taken").contains("fails:"));
    let told = setup.explain("taken");
    assert!(told.contains("not in step on standby") && told.contains("again in"), "{told}");
    daemon.terminate();
}
