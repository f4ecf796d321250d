//! The report as Prometheus text: pure.
//!
//! **Invariants:** every family has its help and type once; labels are names of syncs and targets, reasons
//! and errnos, never paths.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::process::Process;
use crate::status::{Report, TargetReport};

/// Kinds of metrics.
const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Returns a value of a target as a metric; `None` where there is none.
type Value = fn(&TargetReport) -> Option<f64>;

/// Metrics of a target: name, kind, help, value.
const OF_TARGETS: &[(&str, &str, &str, Value)] = &[
    ("speil_target_up", GAUGE, "Whether there is a connection.", |t| {
        // A standby connects to nobody, and nothing is wrong with it.
        let up = matches!(t.state.as_str(), "live" | "first_pass" | "paused");
        (t.state != "standby").then(|| f64::from(u8::from(up)))
    }),
    ("speil_target_live", GAUGE, "Whether changes go out as they happen.", |t| {
        Some(f64::from(u8::from(t.state == "live")))
    }),
    ("speil_target_lag_seconds", GAUGE, "Age of the oldest change that is not acknowledged.", |t| {
        t.known.then_some(t.lag_ms as f64 / 1000.0)
    }),
    ("speil_target_queued_changes", GAUGE, "Changes that wait to be sent.", |t| Some(t.queued as f64)),
    ("speil_target_in_flight_changes", GAUGE, "Changes that were sent and are not acknowledged.", |t| {
        Some(t.in_flight as f64)
    }),
    ("speil_target_queued_bytes", GAUGE, "Bytes that are known to be on their way.", |t| {
        Some(t.queued_bytes as f64)
    }),
    ("speil_target_held_deletes", GAUGE, "Deletes that wait for approval.", |t| Some(t.held as f64)),
    ("speil_target_sent_bytes_total", COUNTER, "Bytes handed to the connection.", |t| {
        Some(t.sent_bytes as f64)
    }),
    ("speil_target_received_bytes_total", COUNTER, "Bytes received from the connection.", |t| {
        Some(t.received_bytes as f64)
    }),
    ("speil_target_literal_bytes_total", COUNTER, "Bytes of files that were sent as they are.", |t| {
        Some(t.literal_bytes as f64)
    }),
    ("speil_target_matched_bytes_total", COUNTER, "Bytes of files that the target already held.", |t| {
        Some(t.matched_bytes as f64)
    }),
    ("speil_target_files_total", COUNTER, "Files that were sent.", |t| Some(t.files as f64)),
    ("speil_target_batches_total", COUNTER, "Batches that were acknowledged.", |t| Some(t.batches as f64)),
    ("speil_target_connects_total", COUNTER, "Connections that were made.", |t| Some(t.connects as f64)),
    ("speil_target_repairs_total", COUNTER, "Entries that comparisons found different.", |t| {
        Some(t.repairs as f64)
    }),
    ("speil_target_unverified_files", GAUGE, "Files that may have changed unheard and look equal.", |t| {
        Some(t.unverified_files as f64)
    }),
    ("speil_target_unverified_bytes", GAUGE, "Bytes of those files.", |t| Some(t.unverified_bytes as f64)),
    (
        "speil_target_hashed_files_total",
        COUNTER,
        "Files hashed where stamps did not prove them equal.",
        |t| Some(t.hashed as f64),
    ),
    ("speil_target_last_batch_timestamp_seconds", GAUGE, "When the last batch was acknowledged.", |t| {
        t.last_batch.map(|time| time as f64)
    }),
    (
        "speil_target_reconcile_timestamp_seconds",
        GAUGE,
        "When the last comparison of the whole tree ended.",
        |t| t.reconcile.as_ref().map(|pass| pass.time as f64),
    ),
    (
        "speil_target_reconcile_duration_seconds",
        GAUGE,
        "How long the last comparison of the whole tree took.",
        |t| t.reconcile.as_ref().map(|pass| pass.elapsed_ms as f64 / 1000.0),
    ),
    (
        "speil_target_reconcile_repaired_entries",
        GAUGE,
        "Entries that the last comparison of the whole tree found different.",
        |t| t.reconcile.as_ref().map(|pass| pass.repaired as f64),
    ),
    (
        "speil_target_entries",
        GAUGE,
        "Entries on the source, as the last comparison of the whole tree counted them.",
        |t| t.reconcile.as_ref().map(|pass| pass.entries as f64),
    ),
];

/// Returns the report in the Prometheus text format.
pub fn metrics(report: &Report) -> String {
    let mut out = Text(String::new());
    out.family("speil_up", GAUGE, "Whether the daemon answers.");
    out.sample("speil_up", &[], 1.0);
    out.family("speil_build_info", GAUGE, "The version, as a label.");
    out.sample("speil_build_info", &[("version", &report.version)], 1.0);
    out.family("speil_start_timestamp_seconds", GAUGE, "When the daemon started.");
    out.sample("speil_start_timestamp_seconds", &[], report.started as f64);
    let refused = f64::from(u8::from(report.refused_reload.is_some()));
    out.family("speil_reload_refused", GAUGE, "Whether the newest configuration was refused.");
    out.sample("speil_reload_refused", &[], refused);
    out.family(
        "speil_sync_up",
        GAUGE,
        "Whether the sync runs: its configuration is right and the source could be opened.",
    );
    for sync in &report.syncs {
        out.sample("speil_sync_up", &[("sync", &sync.name)], f64::from(u8::from(sync.running)));
    }
    out.family("speil_sync_watched_directories", GAUGE, "Directories that are watched.");
    for sync in &report.syncs {
        out.sample("speil_sync_watched_directories", &[("sync", &sync.name)], sync.watched as f64);
    }
    out.family("speil_sync_watch_problems", GAUGE, "Reasons why some changes raise no event.");
    for sync in &report.syncs {
        let count = sync.watch_problems.len() as f64;
        out.sample("speil_sync_watch_problems", &[("sync", &sync.name)], count);
    }
    roles(&mut out, report);
    for (name, kind, help, value) in OF_TARGETS {
        out.family(name, kind, help);
        out.targets(report, |out, labels, target| {
            if let Some(value) = value(target) {
                out.sample(name, labels, value);
            }
        });
    }
    by_word(&mut out, report);
    arrivals(&mut out, report);
    out.0
}

/// Returns what the process uses up, in the same format.
pub(super) fn process_metrics(process: &Process, started: u64) -> String {
    let mut out = Text(String::new());
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", COUNTER, "CPU time of the daemon.", Some(process.cpu_seconds)),
        ("process_resident_memory_bytes", GAUGE, "Memory of the daemon.", process.resident_bytes),
        ("process_virtual_memory_bytes", GAUGE, "Address space of the daemon.", process.virtual_bytes),
        ("process_threads", GAUGE, "Threads of the daemon.", process.threads),
        ("process_open_fds", GAUGE, "Open file descriptors of the daemon.", process.open_fds),
        ("process_max_fds", GAUGE, "Most file descriptors that the daemon may open.", process.max_fds),
        ("process_start_time_seconds", GAUGE, "When the daemon started.", Some(started as f64)),
    ] {
        if let Some(value) = value {
            out.family(name, kind, help);
            out.sample(name, &[], value);
        }
    }
    out.0
}

/// How long changes took to arrive.
fn arrivals(out: &mut Text, report: &Report) {
    let name = "speil_target_arrival_seconds";
    out.family(
        name,
        "histogram",
        "How long changes took, from when they were heard of until they were acknowledged.",
    );
    out.targets(report, |out, labels, target| {
        let Some(arrival) = &target.arrival else { return };
        let bucket = format!("{name}_bucket");
        for one in &arrival.buckets {
            let le = (one.le_ms as f64 / 1000.0).to_string();
            out.sample(&bucket, &[labels, &[("le", le.as_str())]].concat(), one.count as f64);
        }
        out.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), arrival.count as f64);
        out.sample(&format!("{name}_sum"), labels, arrival.sum_ms as f64 / 1000.0);
        out.sample(&format!("{name}_count"), labels, arrival.count as f64);
    });
}

/// What the roles of the sources say; nothing of those that have none.
fn roles(out: &mut Text, report: &Report) {
    out.family("speil_role", GAUGE, "1 for the role of the source's tree: primary or standby.");
    for sync in &report.syncs {
        if let Some(role) = &sync.role {
            out.sample("speil_role", &[("sync", &sync.name), ("role", role)], 1.0);
        }
    }
    out.family("speil_generation", GAUGE, "Number of the generation that the source's tree holds.");
    for sync in &report.syncs {
        if let Some(generation) = sync.generation {
            out.sample("speil_generation", &[("sync", &sync.name)], generation as f64);
        }
    }
    out.family(
        "speil_kept_aside_timestamp_seconds",
        GAUGE,
        "When the oldest of what is kept aside in the source's tree was put there; nothing if there is nothing.",
    );
    for sync in &report.syncs {
        if let Some(since) = sync.kept_aside_since {
            out.sample("speil_kept_aside_timestamp_seconds", &[("sync", &sync.name)], since as f64);
        }
    }
}

fn by_word(out: &mut Text, report: &Report) {
    let name = "speil_target_rescans_total";
    out.family(name, COUNTER, "Comparisons of a subtree, by reason.");
    out.targets(report, |out, labels, target| {
        for (reason, count) in &target.rescans {
            let labels = [labels, &[("reason", reason.as_str())]].concat();
            out.sample(name, &labels, *count as f64);
        }
    });
    let name = "speil_target_problems";
    out.family(name, GAUGE, "Paths that fail, by errno; \"other\" are those that are not kept one by one.");
    out.targets(report, |out, labels, target| {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for problem in &target.problems {
            *counts.entry(&problem.errno).or_default() += 1;
        }
        if target.more_problems > 0 {
            counts.insert("other", target.more_problems);
        }
        for (errno, count) in counts {
            let labels = [labels, &[("errno", errno)]].concat();
            out.sample(name, &labels, count as f64);
        }
    });
}

/// The text so far. Writing to a string cannot fail.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn targets(&mut self, report: &Report, each: impl Fn(&mut Self, &[(&str, &str)], &TargetReport)) {
        for sync in &report.syncs {
            for target in &sync.targets {
                each(self, &[("sync", &sync.name), ("target", &target.name)], target);
            }
        }
    }
}

/// Returns a label's value as it stands between quotes.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ArrivalBucket, ArrivalReport, ProblemReport, SyncReport};

    fn report() -> Report {
        let problem = |errno: &str| ProblemReport { errno: errno.into(), ..ProblemReport::default() };
        let target = TargetReport {
            name: "web\"2\\".into(),
            state: "live".into(),
            known: true,
            lag_ms: 1500,
            rescans: [("overflow".to_owned(), 2)].into(),
            problems: vec![problem("EACCES"), problem("EACCES"), problem("ENOSPC")],
            more_problems: 7,
            arrival: Some(ArrivalReport {
                count: 3,
                sum_ms: 1200,
                buckets: vec![ArrivalBucket { le_ms: 5, count: 1 }, ArrivalBucket { le_ms: 1000, count: 2 }],
            }),
            ..TargetReport::default()
        };
        let sync =
            SyncReport { name: "www".into(), running: true, targets: vec![target], ..SyncReport::default() };
        let sync = SyncReport { role: Some("primary".into()), generation: Some(4), ..sync };
        let sync = SyncReport { kept_aside_since: Some(1_700_000_000), ..sync };
        Report { version: "1.2".into(), syncs: vec![sync], ..Report::default() }
    }

    #[test]
    fn values_stand_under_their_names_with_labels_escaped() {
        let text = metrics(&report());
        let labels = r#"sync="www",target="web\"2\\""#;
        for line in [
            "speil_up 1".to_owned(),
            r#"speil_build_info{version="1.2"} 1"#.to_owned(),
            r#"speil_sync_up{sync="www"} 1"#.to_owned(),
            r#"speil_role{sync="www",role="primary"} 1"#.to_owned(),
            r#"speil_generation{sync="www"} 4"#.to_owned(),
            r#"speil_kept_aside_timestamp_seconds{sync="www"} 1700000000"#.to_owned(),
            format!("speil_target_lag_seconds{{{labels}}} 1.5"),
            format!("speil_target_rescans_total{{{labels},reason=\"overflow\"}} 2"),
            format!("speil_target_problems{{{labels},errno=\"EACCES\"}} 2"),
            format!("speil_target_problems{{{labels},errno=\"other\"}} 7"),
            format!("speil_target_arrival_seconds_bucket{{{labels},le=\"0.005\"}} 1"),
            format!("speil_target_arrival_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("speil_target_arrival_seconds_sum{{{labels}}} 1.2"),
            format!("speil_target_arrival_seconds_count{{{labels}}} 3"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn every_family_is_declared_once_before_its_samples_and_a_lag_that_nobody_knows_is_not_told() {
        let mut report = report();
        report.syncs[0].targets[0].known = false;
        let text = metrics(&report) + &process_metrics(&Process::now(), 1);
        let mut declared = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(declared.insert(name), "{name} twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let known = declared.contains(name) || family.is_some_and(|family| declared.contains(family));
                assert!(known, "{name} undeclared");
            }
        }
        assert!(!text.contains("\nspeil_target_lag_seconds{"), "{text}");
        assert!(text.ends_with('\n'));
    }
}
