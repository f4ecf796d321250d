//! Requests and answers, without a socket.

use std::time::Duration;

use super::*;
use crate::status::{Happening, ProblemReport, SyncReport};

struct Stand;

impl Site for Stand {
    fn report(&self) -> Report {
        let target = |name: &str, known, lag_ms| TargetReport {
            name: name.into(),
            state: "live".into(),
            known,
            lag_ms,
            ..TargetReport::default()
        };
        let sync = |name: &str, targets| SyncReport {
            name: name.into(),
            running: true,
            targets,
            ..SyncReport::default()
        };
        let www = vec![target("web 2", true, 0), target("slow", true, 30_000)];
        let syncs =
            vec![sync("www", www), sync("mail", vec![target("slow", true, 0), target("new", false, 0)])];
        Report { syncs, ..Report::default() }
    }

    fn activity(&self) -> Vec<Happening> {
        let one =
            |number| Happening { number, about: "\u{1b}[2J\n\ndata: forged".into(), ..Happening::default() };
        vec![one(1), one(2)]
    }

    fn act(&self, _: Request) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(std::future::ready(Answer::Done { count: 1 }))
    }
}

const TOKEN: &str = "0123456789abcdef";

fn pages(token: Option<&str>, page: bool) -> Pages {
    let limits = Limits { max_lag: Duration::from_secs(10), down_lag: None };
    Pages::new(Arc::new(Stand), ServeOptions { token: token.map(str::to_owned), limits, page })
}

/// A target in step but for a path, beside a sync that is wrong and a configuration that was refused.
struct Failing {
    problems: bool,
    wrong: bool,
}

impl Site for Failing {
    fn report(&self) -> Report {
        let problem = ProblemReport {
            path: "\"a b\"".into(),
            operation: "write".into(),
            error: "file too large (EFBIG)".into(),
            ..ProblemReport::default()
        };
        let problems = if self.problems { vec![problem] } else { Vec::new() };
        let target = TargetReport {
            name: "t".into(),
            state: "live".into(),
            known: true,
            problems,
            ..TargetReport::default()
        };
        let up =
            SyncReport { name: "up".into(), running: true, targets: vec![target], ..SyncReport::default() };
        let left_out = SyncReport {
            name: "typo".into(),
            error: Some("c.lua:3: no such key".into()),
            ..SyncReport::default()
        };
        let mut syncs = vec![up];
        syncs.extend(self.wrong.then_some(left_out));
        let refused_reload = self.wrong.then(|| "c.lua:9: unexpected symbol".to_owned());
        Report { syncs, refused_reload, ..Report::default() }
    }
}

/// A host that follows another one.
struct Follower(Option<String>);

impl Site for Follower {
    fn report(&self) -> Report {
        let target = TargetReport {
            name: "t".into(),
            state: "standby".into(),
            error: self.0.clone(),
            ..TargetReport::default()
        };
        let sync =
            SyncReport { name: "up".into(), running: true, targets: vec![target], ..SyncReport::default() };
        Report { syncs: vec![sync], ..Report::default() }
    }
}

#[test]
fn a_standby_that_stands_by_is_ready_and_one_that_waits_is_not() {
    let limits = Limits { max_lag: Duration::from_secs(10), down_lag: None };
    for (error, status) in [(None, 200), (Some("never in step".to_owned()), 503)] {
        let options = ServeOptions { token: None, limits, page: true };
        let pages = Pages::new(Arc::new(Follower(error)), options);
        let asked = Asked { method: "GET".into(), path: "/readyz".into(), ..Asked::default() };
        assert_eq!(ask(&pages, &asked, b"").status, status);
    }
}

#[test]
fn what_is_wrong_keeps_readiness_away_and_is_named_and_a_failing_path_drains_no_target() {
    let limits = Limits { max_lag: Duration::from_secs(10), down_lag: None };
    let get = |problems, wrong, path: &str| {
        let options = ServeOptions { token: None, limits, page: true };
        let pages = Pages::new(Arc::new(Failing { problems, wrong }), options);
        let page = ask(&pages, &Asked { method: "GET".into(), path: path.into(), ..Asked::default() }, b"");
        (page.status, page.body)
    };
    assert_eq!(get(false, false, "/readyz"), (200, "ready\n".to_owned()));
    let failing = "up → t: write \"a b\": file too large (EFBIG)\n".to_owned();
    assert_eq!(get(true, false, "/readyz"), (503, failing));
    let wrong = "typo: not started: c.lua:3: no such key\n\
                 new configuration refused, the old one stays in force: c.lua:9: unexpected symbol\n";
    assert_eq!(get(false, true, "/readyz"), (503, wrong.to_owned()));
    assert_eq!(get(false, true, "/target/t"), (200, "up → t: live, lag 0.000 s\n".to_owned()));
    let (status, body) = get(true, true, "/target/t");
    assert_eq!(status, 200);
    assert!(body.contains("lag 0.000 s, 1 path fails\n  write \"a b\": file too large (EFBIG)\n"), "{body}");
    let text = get(true, true, "/metrics").1;
    assert!(
        text.contains("speil_reload_refused 1") && text.contains("speil_sync_up{sync=\"typo\"} 0"),
        "{text}"
    );
}

fn ask(pages: &Pages, asked: &Asked, body: &[u8]) -> Page {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(pages.page(asked, body))
}

fn get(address: &str) -> Page {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let asked = Asked { method: "GET".into(), path: path.into(), query: query.into(), ..Asked::default() };
    ask(&pages(None, true), &asked, b"")
}

#[test]
fn a_target_answers_by_its_lag() {
    for (address, status) in [
        ("/target/web%202", 200),
        ("/target/slow", 503),
        ("/target/slow?sync=mail", 200),
        ("/target/slow?max_lag=1m", 200),
        ("/target/slow?max_lag=29999ms", 503),
        ("/target/new", 503),
        ("/target/nobody", 404),
        ("/target/slow?max_lag=soon", 400),
        ("/target/%ff", 404),
        ("/target/", 404),
        ("/readyz", 503),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/status.json", 200),
        ("/../etc/passwd", 404),
        ("/", 200),
    ] {
        assert_eq!(get(address).status, status, "{address}");
    }
    assert!(get("/readyz").body.contains("www → slow"), "{}", get("/readyz").body);
}

#[test]
fn acting_needs_a_configured_token_and_the_right_one() {
    let post = |token: Option<&str>, kind: &str| Asked {
        method: "POST".into(),
        path: "/act".into(),
        token: token.map(str::to_owned),
        content_type: kind.into(),
        ..Asked::default()
    };
    let body = br#"{"command":"pause","sync":null}"#;
    let json = "application/json";
    assert_eq!(ask(&pages(None, true), &post(Some(TOKEN), json), body).status, 403);
    let with = pages(Some(TOKEN), true);
    assert_eq!(ask(&with, &post(None, json), body).status, 401);
    assert_eq!(ask(&with, &post(Some("0123456789abcdeF"), json), body).status, 401);
    assert_eq!(ask(&with, &post(Some(TOKEN), "text/plain"), body).status, 415);
    assert_eq!(ask(&with, &post(Some(TOKEN), json), b"{}").status, 400);
    assert_eq!(ask(&with, &post(Some(TOKEN), json), body).status, 200);
    let mut wrong = post(Some(TOKEN), json);
    wrong.method = "GET".into();
    assert_eq!(ask(&with, &wrong, body).status, 405);
    wrong.path = "/status.json".into();
    wrong.method = "POST".into();
    assert_eq!(ask(&with, &wrong, body).status, 405);
}

#[test]
fn an_event_is_one_line_whatever_its_values_hold_and_tells_each_happening_once() {
    let pages = pages(None, true);
    let mut seen = 1;
    let event = pages.event(&mut seen);
    assert_eq!(seen, 2);
    let lines: Vec<&str> = event.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (3, "event: status", ""), "{event}");
    assert!(!event.contains('\u{1b}'));
    assert_eq!(event.matches("forged").count(), 1);
    assert_eq!(pages.event(&mut seen).matches("forged").count(), 0);
}

#[test]
fn the_page_allows_its_own_script_alone_and_loads_nothing() {
    let (one, two) = (get("/"), get("/"));
    let policy = |page: &Page| {
        page.headers().into_iter().find(|(name, _)| *name == "content-security-policy").unwrap().1
    };
    assert!(policy(&one).contains("default-src 'none'"));
    assert_ne!(policy(&one), policy(&two), "a nonce is used once");
    assert!(!one.body.contains("{{") && one.body.contains("const acts = false"));
    for outside in ["http://", "https://", "//cdn"] {
        let found = one.body.replace("http://www.w3.org/2000/svg", "").contains(outside);
        assert!(!found, "{outside}");
    }
}

#[test]
fn a_standby_serves_machines_and_no_page() {
    let asked = Asked { method: "GET".into(), path: "/events".into(), ..Asked::default() };
    assert_eq!(ask(&pages(None, false), &asked, b"").status, 404);
}
