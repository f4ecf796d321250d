//! `speil log`: what arrived, when, and how long it took.

use std::fs;
use std::path::Path;

use super::service::block;
use crate::support::command::Environment;

/// Returns the records that `speil log` tells.
fn records(environment: &Environment, arguments: &[&str]) -> Vec<serde_json::Value> {
    let told = environment.run([&["log", "--json"], arguments].concat()).succeeded().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["schema"], 1);
    told["records"].as_array().unwrap().clone()
}

fn unknown_names_are_refused(environment: &Environment, control: &str) {
    for (words, name) in [
        (&["log", "nosuch"][..], "nosuch"),
        (&["approve", "nosuch"], "nosuch"),
        (&["approve", "www", "nowhere"], "nowhere"),
        (&["approve", "--volume", "www", "nowhere"], "nowhere"),
        (&["discard", "www", "nowhere"], "nowhere"),
        (&["retry", "www", "nowhere"], "nowhere"),
    ] {
        let refused = environment.run([words, &[control]].concat());
        assert_eq!(refused.code(), 1, "{words:?}: {refused:?}");
        assert!(refused.stderr.contains(&format!("is called {name:?}")), "{words:?}: {refused:?}");
    }
}

#[test]
fn the_log_says_when_a_path_arrived_and_how_long_it_took_over_a_restart_and_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("source/dir")).unwrap();
    let (config, control) = (path("speil.lua"), format!("--control={}", path("control").display()));
    fs::write(&config, block("www", &path("source"), &path("standby"))).unwrap();
    let environment = Environment::new();
    let start = || {
        let daemon = environment.spawn(["run", &control, config.to_str().unwrap()]);
        daemon.wait_for_error_line(": live");
        daemon
    };
    let wait = || {
        let _ = environment.run(["wait", &control]).succeeded();
    };
    let daemon = start();
    fs::write(path("source/dir/a"), "x").unwrap();
    fs::write(path("source/other"), "x").unwrap();
    wait();
    fs::rename(path("source/dir/a"), path("source/dir/b")).unwrap();
    wait();
    fs::remove_file(path("source/dir/b")).unwrap();
    wait();
    // A delete waits for others; it is owed until it has arrived.
    assert!(!path("standby/dir/b").exists());
    let of_a = records(&environment, &["www", "dir/a", &control]);
    let whats: Vec<&str> = of_a.iter().map(|record| record["what"].as_str().unwrap()).collect();
    assert!(whats.starts_with(&["sent"]) && whats.ends_with(&["renamed"]), "{of_a:?}");
    assert!(
        of_a.iter().all(|record| record["took_ms"].is_u64() && record["target"] == "standby"),
        "{of_a:?}"
    );
    let absolute = path("source/dir/b").display().to_string();
    let of_b = records(&environment, &["www", &absolute, &control]);
    assert!(of_b.last().is_some_and(|last| last["what"] == "deleted"), "{of_b:?}");
    let text = environment.run(["log", "--since=1h", &control]).succeeded().stdout;
    assert!(text.lines().any(|line| line.contains("Z www → standby: sent \"other\", after ")), "{text}");
    let status = environment.run(["status", "--json", &control]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let arrival = &status["syncs"][0]["targets"][0]["arrival"];
    assert!(arrival["count"].as_u64().unwrap() >= 4, "{arrival}");
    assert_eq!(arrival["buckets"].as_array().unwrap().last().unwrap()["count"], arrival["count"]);
    unknown_names_are_refused(&environment, &control);
    daemon.terminate();
    assert_eq!(environment.run(["log", "nosuch"]).code(), 1);
    let log = environment.home().join("state/speil/log");
    assert!(fs::read_dir(&log).unwrap().count() == 1 && fs::metadata(&log).is_ok_and(|meta| meta.is_dir()));
    let dead = environment.run(["log", "www", "dir/a"]).succeeded();
    assert!(
        dead.stderr.contains("no daemon runs; this is from") && dead.stdout.contains("renamed"),
        "{dead:?}"
    );
    fs::write(path("source/while away"), "x").unwrap();
    let daemon = start();
    wait();
    let found = records(&environment, &["www", "while away", &control]);
    assert!(found.len() == 1 && found[0]["took_ms"].is_null(), "{found:?}");
    assert_eq!(
        records(&environment, &["www", "dir/a", &control]).len(),
        of_a.len(),
        "it goes on after a restart"
    );
    let newest = environment.run(["log", "-n1", &control]).succeeded();
    assert!(newest.stdout.lines().count() == 1 && newest.stderr.contains("before these"), "{newest:?}");
    // Switched off, it keeps nothing more.
    let off = "settings { history = false }\n".to_owned() + &fs::read_to_string(&config).unwrap();
    fs::write(&config, off).unwrap();
    let _ = environment.run(["reload", &control]).succeeded();
    fs::write(path("source/secret"), "x").unwrap();
    wait();
    assert_eq!(records(&environment, &["www", "secret", &control]), [] as [serde_json::Value; 0]);
    daemon.terminate();
    assert!(!holds(&log, "secret"));
}

/// Whether a file of a directory holds a text.
fn holds(dir: &Path, text: &str) -> bool {
    let files = fs::read_dir(dir).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    files.into_iter().any(|file| file.contains(text))
}
