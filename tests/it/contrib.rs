//! What lies in `contrib/` for other programs fits what speil says.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use speil::http::metrics;
use speil::status::{ProblemReport, ReconcileReport, Report, SyncReport, TargetReport};

use crate::support::command::eventually;
use crate::support::stand::Stand;

fn contrib(name: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Returns promtool: from PATH, or where `make packages` puts it.
fn promtool() -> PathBuf {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/bin/promtool");
    if kept.is_file() { kept } else { PathBuf::from("promtool") }
}

/// A report in which everything that can be told is there.
fn full_report() -> Report {
    let target = TargetReport {
        name: "web2".into(),
        state: "live".into(),
        known: true,
        last_batch: Some(1),
        reconcile: Some(ReconcileReport::default()),
        rescans: [("start".to_owned(), 1)].into(),
        problems: vec![ProblemReport { errno: "EACCES".into(), ..ProblemReport::default() }],
        ..TargetReport::default()
    };
    let sync =
        SyncReport { name: "www".into(), running: true, targets: vec![target], ..SyncReport::default() };
    let sync = SyncReport { role: Some("primary".into()), generation: Some(2), ..sync };
    let sync = SyncReport { kept_aside_since: Some(1), ..sync };
    Report { syncs: vec![sync], ..Report::default() }
}

/// Returns the names of speil's metrics in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("speil_")).map(str::to_owned).collect()
}

#[test]
fn alert_rules_and_dashboard_use_metrics_that_exist() {
    let told = names_in(&metrics(&full_report()));
    assert!(told.len() > 20);
    for file in ["prometheus-alerts.yml", "grafana-dashboard.json"] {
        let used = names_in(&contrib(file));
        let unknown: Vec<_> = used.difference(&told).collect();
        assert!(used.len() > 5 && unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&contrib("grafana-dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 8));
}

#[test]
fn promtool_accepts_the_alert_rules_and_the_metrics() {
    let run = |arguments: &[&str], input: &str| {
        let mut child = Command::new(promtool())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tests need promtool: make packages");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    };
    let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus-alerts.yml");
    run(&["check", "rules", &rules.display().to_string()], "");
    run(&["check", "metrics"], &metrics(&full_report()));
    // Who leads of several hosts: each alert is raised where it should be, and nowhere else.
    let dir = tempfile::tempdir().unwrap();
    let tests = include_str!("../data/failover/alerts.yml").replace("RULES", &rules.display().to_string());
    let file = dir.path().join("alerts.yml");
    fs::write(&file, tests).unwrap();
    run(&["test", "rules", &file.display().to_string()], "");
}

#[test]
fn a_standby_says_by_an_exit_code_how_it_stands() {
    let stand = Stand::new();
    let root = stand.target("standby").display().to_string();
    let health = |more: &[&str]| {
        let arguments = ["health", "--root", &root].into_iter().chain(more.iter().copied());
        stand.environment.run(arguments)
    };
    assert_eq!(health(&[]).code(), 11, "there is nothing yet");
    fs::create_dir(stand.target("standby")).unwrap();
    let never = health(&[]);
    assert_eq!(never.code(), 11, "{never:?}");
    assert!(never.stderr.contains("never mirrored"), "{never:?}");
    let daemon = stand.run(&["standby"], "", "");
    eventually("the primary has stated", || health(&[]).code() == 0);
    let control = format!("--control={}", stand.control().display());
    assert_eq!(stand.environment.run(["pause", &control]).code(), 0);
    fs::write(stand.source().join("file"), b"x").unwrap();
    eventually("the lag is stated", || health(&["--max-lag=100ms"]).code() == 30);
    assert_eq!(stand.environment.run(["resume", &control]).code(), 0);
    eventually("the standby is in step again", || health(&["--max-lag=100ms"]).code() == 0);
    // Silence is no lag, unless somebody says so.
    daemon.terminate();
    eventually("silence, where it counts", || health(&["--max-silence=1s"]).code() == 30);
    let silent = health(&["--max-silence=1s"]).stderr;
    assert!(silent.contains("the primary has stated nothing for"), "{silent}");
    assert_eq!(health(&[]).code(), 0);
}
