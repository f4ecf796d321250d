//! Lists and logs that are named through links: rsync is the judge.

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::process::Command;

use crate::support::command::Environment;

#[test]
fn lists_and_logs_that_a_link_of_somebody_else_names_are_not_touched() {
    assert!(rustix::process::geteuid().is_root(), "the tests run as root");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("s")).unwrap();
    fs::write(at("s/file"), "content").unwrap();
    fs::write(at("victim"), "file\n").unwrap();
    fs::create_dir(at("shared")).unwrap();
    chown(at("shared"), Some(1), Some(1)).unwrap();
    symlink("../victim", at("shared/planted")).unwrap();
    lchown(at("shared/planted"), Some(1), Some(1)).unwrap();
    symlink("../victim", at("shared/own")).unwrap();
    let run = |option: &str, name: &str| {
        let option = format!("{option}={}", at("shared").join(name).display());
        let (source, target) = (format!("{}/", at("s").display()), at("t").display().to_string());
        Environment::new().run(["sync", "-a", &option, &source, &target])
    };
    for option in ["--files-from", "--exclude-from", "--include-from", "--log-file"] {
        let refused = run(option, "planted");
        assert_ne!(refused.code(), 0, "{option}");
        assert!(refused.stderr.contains("\"planted\" is a link that belongs to user 1"), "{refused:?}");
        assert!(!at("t").exists(), "{option}");
        run(option, "own").succeeded();
        if option != "--log-file" {
            assert_eq!(fs::read_to_string(at("victim")).unwrap(), "file\n", "{option}");
        }
        let _ = fs::remove_dir_all(at("t"));
    }
    // rsync refuses the same.
    let list = format!("--files-from={}", at("shared/planted").display());
    let judge = Command::new("rsync").args(["-a", &list]).args([at("s"), at("t")]).output().unwrap();
    assert_ne!(judge.status.code(), Some(0));
}
