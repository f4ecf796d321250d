//! Every state that a page can show, from reports that are made up.

use std::net::TcpListener;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde_json::json;
use speil::http::{Limits, ServeOptions, Site, serve};
use speil::status::{Happening, Report, Sample, Series, SyncReport, TargetReport};

use super::{SCREENS, assert_readable};
use crate::support::browser::Browser;
use crate::support::command::eventually;

const NOW: u64 = 1_790_000_000;

/// A site that tells what it is given.
#[derive(Default)]
struct Told(RwLock<Report>);

impl Site for Told {
    fn report(&self) -> Report {
        self.0.read().unwrap().clone()
    }

    fn series(&self) -> Vec<Series> {
        let samples = |step: u64, count: u64| {
            let one =
                |n: u64| Sample { time: NOW - (count - n) * step, lag_ms: n * 30, bytes: n % 50 * 1000 };
            (0..count).map(one).collect()
        };
        let report = self.report();
        let pairs =
            report.syncs.iter().flat_map(|sync| sync.targets.iter().map(move |target| (sync, target)));
        let series = pairs.map(|(sync, target)| Series {
            sync: sync.name.clone(),
            target: target.name.clone(),
            samples: samples(1, 600),
            hour: samples(10, 360),
            day: samples(300, 288),
        });
        series.collect()
    }

    fn activity(&self) -> Vec<Happening> {
        let one = |number| Happening {
            number,
            time: NOW - 100 + number,
            sync: "uploads".into(),
            target: "standby".into(),
            what: "disconnected".into(),
            about: "connection refused".into(),
            bad: true,
            ..Happening::default()
        };
        (1..=37).map(one).collect()
    }
}

/// Returns a live target with some fields as in `changes`.
fn target(name: &str, changes: serde_json::Value) -> TargetReport {
    let live = TargetReport {
        name: name.into(),
        target: format!("root@{name}:/srv/uploads"),
        state: "live".into(),
        since: NOW - 4000,
        known: true,
        last_batch: Some(NOW - 3),
        ..TargetReport::default()
    };
    let mut value = serde_json::to_value(live).unwrap();
    value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn sync(name: &str, targets: Vec<TargetReport>) -> SyncReport {
    let source = format!("/srv/{name}");
    SyncReport { name: name.into(), source, running: true, watched: 41, targets, ..SyncReport::default() }
}

fn report(syncs: Vec<SyncReport>) -> Report {
    Report { schema: 1, version: "0.1.0".into(), time: NOW, started: NOW - 9000, syncs, ..Report::default() }
}

fn problem(n: u32) -> serde_json::Value {
    json!({ "path": format!("\"cache/{n}\""), "operation": "open", "error": "permission denied (EACCES)",
            "errno": "EACCES", "on_target": true, "attempts": 3, "retry_ms": 20_000 })
}

fn down() -> TargetReport {
    let error = "connect: ssh exited 255: \"Permission denied (publickey)\"";
    target(
        "standby2",
        json!({ "state": "down", "error": error, "hint": "check the key", "lag_ms": 4_000_000 }),
    )
}

fn held() -> TargetReport {
    let first = ["\"0.jpg\"", "\"1.jpg\""];
    target(
        "standby3",
        json!({ "held": 150, "held_reason": "150 deletes would leave the tree empty", "held_first": first }),
    )
}

/// Each state: its name, the report, and what the page must show.
fn states() -> Vec<(&'static str, Report, &'static str)> {
    let failing = || target("standby", json!({ "problems": (0..37).map(problem).collect::<Vec<_>>() }));
    let behind = || target("berlin", json!({ "lag_ms": 134_000, "queued": 1200, "rate": 2_100_000 }));
    let copy = || {
        let copy = json!({ "done_entries": 21_840, "total_entries": 60_012, "done_bytes": 3_100_000_000_u64,
                           "total_bytes": 8_300_000_000_u64, "complete": true });
        target("oslo", json!({ "state": "first_pass", "known": false, "copy": copy, "rate": 31_000_000 }))
    };
    let begun = || {
        let copy = json!({ "done_entries": 12_000, "total_entries": 12_000, "done_bytes": 0, "total_bytes": 0,
                           "complete": false });
        target("paris", json!({ "state": "first_pass", "known": false, "copy": copy }))
    };
    let paused = || target("rome", json!({ "state": "paused", "queued": 77 }));
    let fine = |name: &str| target(name, json!({}));
    let edges = (0..16).map(|n| fine(&format!("edge{n:02}")));
    let left_out = SyncReport {
        name: "avatars".into(),
        error: Some("/etc/speil/speil.lua:14: unknown key \"maxDelai\"".into()),
        ..SyncReport::default()
    };
    let refused = Some("/etc/speil/speil.lua:9: unknown key \"exclud\"".to_owned());
    let long = "a-very-long-name-of-a-standby.in-a-data-centre.example.org";
    vec![
        (
            "good",
            report(vec![sync("uploads", vec![fine("standby"), fine("standby2")])]),
            "All 2 targets are up to date",
        ),
        ("down", report(vec![sync("uploads", vec![fine("standby"), down()])]), "Check the key"),
        ("held", report(vec![sync("uploads", vec![held()])]), "speil approve uploads standby3"),
        ("failing", report(vec![sync("uploads", vec![failing()])]), "and 36 other paths"),
        ("behind", report(vec![sync("uploads", vec![behind()])]), "behind 2 min"),
        ("copy", report(vec![sync("uploads", vec![copy(), begun()])]), "3.1 GB of 8.3 GB"),
        ("paused", report(vec![sync("uploads", vec![paused()])]), "speil resume uploads"),
        (
            "left-out",
            report(vec![sync("uploads", vec![fine("standby")]), left_out]),
            "avatars is not running",
        ),
        (
            "refused",
            Report { refused_reload: refused, ..report(vec![sync("uploads", vec![fine("standby")])]) },
            "The new configuration is refused",
        ),
        (
            "many",
            report(vec![sync("uploads", edges.chain([down()]).collect()), sync("static", vec![held()])]),
            "16 of 18 targets are up to date",
        ),
        (
            "all",
            report(vec![
                sync("uploads", vec![fine("standby"), failing(), held(), down()]),
                sync("static", vec![copy(), behind(), paused()]),
            ]),
            "standby2 (uploads): down",
        ),
        ("long", report(vec![sync("uploads-of-the-customer-portal-in-production", vec![fine(long)])]), long),
        ("none", report(Vec::new()), "No sync is running"),
    ]
}

#[test]
#[ignore = "needs Chromium: make page"]
fn every_state_says_what_to_do_fits_every_screen_and_can_be_read_by_everybody() {
    let told = Arc::new(Told::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let limits = Limits { max_lag: Duration::from_secs(10), down_lag: None };
    let options = ServeOptions { token: Some("a token for this test".into()), limits, page: true };
    let site: Arc<dyn Site> = Arc::clone(&told) as _;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            serve(tokio::net::TcpListener::from_std(listener).unwrap(), site, options).await;
        });
    });
    let shots = std::env::var_os("SPEIL_SCREENSHOTS").map(std::path::PathBuf::from);
    let mut browser = Browser::start();
    for signed in [false, true] {
        for (name, report, shows) in states() {
            *told.0.write().unwrap() = report;
            browser.open(&format!("http://{address}/"));
            eventually("the page", || browser.value("location.host") == address.to_string());
            let token = if signed { "sessionStorage.setItem('token', 'a token for this test')" } else { "0" };
            browser.value(token);
            browser.open(&format!("http://{address}/"));
            let shown = format!("document.body !== null && document.body.innerText.includes({shows:?})");
            eventually(&format!("{name} shows {shows}"), || browser.value(&shown) == true);
            for (screen, width, height) in SCREENS {
                for dark in [false, true] {
                    let scheme = if dark { "dark" } else { "light" };
                    let what = format!("{name}-{screen}-{scheme}{}", if signed { "-signed" } else { "" });
                    browser.screen(width, height, dark);
                    eventually("a layout", || browser.value("innerWidth") == width);
                    let wide = browser.value("document.documentElement.scrollWidth - innerWidth");
                    assert_eq!(wide, 0, "{what}: the page is wider than the screen");
                    assert_readable(&mut browser, &what);
                    let below = "document.getElementById('todo').getBoundingClientRect().top";
                    let top = browser.value(below).as_f64().unwrap();
                    assert!(
                        top < f64::from(height) / 2.0,
                        "{what}: what is wrong is above the fold, not at {top}"
                    );
                    if let Some(shots) = &shots {
                        browser.screenshot(&shots.join(format!("{what}.png")));
                    }
                }
            }
        }
    }
    // The same happening is one line, and the filter takes lines away.
    let lines = "document.getElementById('activity').innerText";
    assert!(browser.value(lines).as_str().unwrap().contains("37 times"));
    let filter = "document.getElementById('find').value = 'nowhere'; \
                  document.getElementById('find').dispatchEvent(new Event('input')); 1";
    browser.value(filter);
    assert_eq!(browser.value(lines), "Nothing fits the filter.");
    assert!(browser.complaints().is_empty());
}
