//! Man pages that man(1) reads without a warning.

use std::fs;
use std::path::Path;

use crate::support::command::{Background, Environment};

#[test]
fn every_page_is_read_by_man_without_a_warning() {
    let env = Environment::new();
    let dir = tempfile::tempdir().unwrap();
    let _ = env.run([Path::new("manual"), dir.path()]).succeeded();
    let mut names: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for page in ["speil.1", "speil-sync.1", "speil-mirror.1", "speil-run.1", "speil-status.1", "speil.lua.5"]
    {
        assert!(names.iter().any(|name| name == page), "no {page} in {names:?}");
    }
    for name in &names {
        let page = dir.path().join(name);
        let mut command = env.command("man");
        command
            .args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(&page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8");
        let read = Background::spawn(command).wait().succeeded();
        assert_eq!(read.stderr, "", "{name}");
        assert!(read.stdout.contains("NAME") && read.stdout.contains("speil"), "{name}: {}", read.stdout);
    }
    let text = fs::read_to_string(dir.path().join("speil-sync.1")).unwrap();
    assert!(text.contains("max\\-delete"), "an option is missing");
    assert!(fs::read_to_string(dir.path().join("speil.1")).unwrap().contains("EXIT STATUS"));
    let text = fs::read_to_string(dir.path().join("speil.lua.5")).unwrap();
    assert!(text.contains("\\fBmaxDelete\\fR"), "a key is missing");
    let shown = env.run(["help", "configuration"]).succeeded().stdout;
    assert!(shown.contains("| `maxDelete` |"), "{shown}");
    assert!(env.run(["help", "sync"]).succeeded().stdout.contains("--max-delete"));
    assert!(!names.iter().any(|name| name.contains("comple")), "hidden commands have no page");
}
