//! Whatever a file is called, no output can be forged by it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::command::{Environment, Outcome, SPEIL, agent_command, eventually};

/// Names that would clear a terminal, begin a line, end a string, reorder a line, or are no text.
const NAMES: [&[u8]; 8] = [
    b"a\n2026-01-01T00:00:00.000Z ERROR forged line",
    b"b\x1b[2J\x1b]0;forged title\x07",
    b"c\rforged",
    b"d\"}\n{\"forged\":true,\"x\":\"",
    b"e\xff\xfe\xc3(forged",
    b"f\xe2\x80\xaeforged\xe2\x80\xa8forged",
    b"g\xc2\x9bforged",
    b"h\x08\x08\x7fforged\t",
];

fn grow(at: &Path) {
    fs::create_dir_all(at).unwrap();
    for name in NAMES {
        fs::write(at.join(OsStr::from_bytes(name)), "content").unwrap();
        let dir = at.join(OsStr::from_bytes(&[b"dir-", name].concat()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(OsStr::from_bytes(name)), "content").unwrap();
    }
}

/// Every line is speil's own: no control character, and nothing begins where a name had a line's end.
#[track_caller]
fn honest(what: &str, text: &str) {
    assert!(text.contains("forged"), "{what}: the names do not show, so nothing is proved: {text}");
    for line in text.lines() {
        let bad = |c: char| {
            // rsync lets a tab stand.
            (c.is_control() && c != '\t')
                || ('\u{2028}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
        };
        assert!(!line.contains(bad), "{what}: {line:?}");
        for begin in ["2026-01-01", "{\"forged\"", "forged"] {
            assert!(!line.trim_start().starts_with(begin), "{what}: {line:?}");
        }
    }
}

#[track_caller]
fn honest_outcome(what: &str, outcome: &Outcome) {
    honest(what, &format!("{}\n{}", outcome.stdout, outcome.stderr));
}

#[test]
fn names_forge_no_line_of_a_single_pass() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let source = dir.path().join("source");
    grow(&source);
    let environment = Environment::new();
    let agent = format!("--agent={}", agent_command());
    let from = format!("{}/", source.display());
    let run = |options: &[&str], to: &str| {
        let mut arguments = vec!["sync", &agent];
        arguments.extend(options);
        arguments.extend([from.as_str(), to]);
        environment.run(arguments)
    };
    honest_outcome("verbose", &run(&["-av"], &at("a")));
    honest_outcome("itemize", &run(&["-ai"], &at("b")));
    fs::create_dir(dir.path().join("c")).unwrap();
    honest_outcome("dry run", &run(&["-ain", "--delete"], &at("c")));
    honest_outcome("format", &run(&["-a", "--out-format=%n|%L|%f|%i"], &at("d")));
    let log = at("log");
    run(&["-av", &format!("--log-file={log}")], &at("e"));
    honest("log file", &fs::read_to_string(&log).unwrap());
    // Deletes, and trouble: what stands on the target and what cannot be written.
    fs::create_dir(dir.path().join("empty")).unwrap();
    let deletes = environment.run([
        "sync",
        &agent,
        "-avi",
        "--delete",
        "--no-delete-guard",
        &format!("{}/", at("empty")),
        &at("a"),
    ]);
    honest_outcome("deletes", &deletes);
    let full = format!("--agent={SPEIL} agent --min-free=1P");
    let trouble = environment.run(["sync", &full, "-a", &from, &at("f")]);
    assert_eq!(trouble.code(), 23, "{trouble:?}");
    honest_outcome("trouble", &trouble);
}

#[test]
fn names_forge_no_line_of_the_daemon_and_no_field_of_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // The source itself is called so as well.
    let source: PathBuf = at("s").join(OsStr::from_bytes(NAMES[0]));
    grow(&source);
    let environment = Environment::new();
    let control = format!("--control={}", at("control").display());
    let bytes: String = source.as_os_str().as_bytes().iter().map(|byte| format!("\\{byte:03}")).collect();
    let config = at("speil.lua");
    let text = format!(
        "sync {{ default.mirror, source = \"{bytes}\", target = {:?}, agent = {{ {SPEIL:?}, \"agent\", \"--min-free=1P\" }} }}\n",
        at("standby")
    );
    fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    honest_outcome("check", &environment.run(["check", config.as_str()]));
    for format in ["human", "json"] {
        let daemon = environment.spawn(["run", "-vv", &format!("--log-format={format}"), &control, &config]);
        let troubles = NAMES.len() * 2;
        let told = || daemon.stderr().iter().filter(|line| line.contains("ENOSPC")).count() >= troubles;
        eventually("every file is told as trouble", told);
        let status = environment.run(["status", &control]);
        honest_outcome("status", &status);
        let json = environment.run(["status", "--json", &control]).succeeded().stdout;
        let report: serde_json::Value = serde_json::from_str(&json).expect("one JSON value");
        assert!(report.get("forged").is_none());
        assert!(!json.contains(|c: char| c.is_control() && c != '\n'), "{json:?}");
        let ended = daemon.terminate();
        for line in ended.stderr.lines() {
            assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
            if format == "json" {
                let value: serde_json::Value =
                    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
                assert!(value.get("forged").is_none() && value.get("level").is_some(), "{line}");
            }
        }
        if format == "human" {
            honest("log", &ended.stderr);
        }
    }
}
