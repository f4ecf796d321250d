//! The screen, drawn into memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::status::{ProblemReport, SyncReport, TargetReport};

fn target(name: &str, state: &str) -> TargetReport {
    TargetReport {
        name: name.to_owned(),
        target: format!("root@{name}:/srv"),
        state: state.to_owned(),
        since: 100,
        known: true,
        ..TargetReport::default()
    }
}

fn report(sent: u64, lag_ms: u64) -> Report {
    let web2 = TargetReport { sent_bytes: sent, lag_ms, queued: 7, ..target("web2", "live") };
    let web3 =
        TargetReport { error: Some("connection ended with status 255".to_owned()), ..target("web3", "down") };
    Report {
        version: "0.1.0".to_owned(),
        time: 160,
        syncs: vec![SyncReport {
            name: "www".to_owned(),
            running: true,
            targets: vec![web2, web3],
            ..SyncReport::default()
        }],
        ..Report::default()
    }
}

fn screen() -> Screen {
    let mut screen = Screen::default();
    let now = Instant::now();
    for second in 0..30 {
        let at = now + Duration::from_secs(second);
        screen.take(report(second * 3_000_000, second * 100), at);
    }
    screen
}

fn drawn(screen: &Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(100, 20)).unwrap();
    terminal.draw(|frame| view::draw(screen, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..100).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..20).map(|y| row(y).trim_end().to_owned()).collect()
}

fn press(screen: &mut Screen, code: KeyCode) -> Asked {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn every_target_has_its_state_its_figures_and_two_graphs() {
    let lines = drawn(&screen());
    let text = lines.join("\n");
    assert!(lines[0].contains("speil 0.1.0") && lines[0].contains("1 of 2 targets live"), "{text}");
    assert!(
        text.contains("▶ www → web3 down for 60 s") && text.contains("www → web2 live for 60 s"),
        "the worst is the first: {text}"
    );
    assert!(text.contains("7 queued") && text.contains("lag 2.9 s") && text.contains("3.0 MB/s"), "{text}");
    assert!(text.contains("connection ended with status 255"), "{text}");
    let lag = lines.iter().position(|line| line.starts_with("lag 2.9 s")).unwrap();
    // The lag grows from left to right, so does its graph.
    let graph = format!("{}{}", lines[lag], lines[lag + 1]);
    assert!(graph.contains('█') && graph.contains('▂'), "{text}");
    assert!(lines.last().unwrap().contains("q quit"), "{text}");
}

#[test]
fn keys_ask_for_the_picked_target_and_approve_wants_a_yes() {
    let mut screen = screen();
    let www = Some("www".to_owned());
    assert_eq!(
        press(&mut screen, KeyCode::Char('p')),
        Asked::Tell(Request::Pause { sync: www.clone() }, "paused")
    );
    assert_eq!(
        press(&mut screen, KeyCode::Char('r')),
        Asked::Tell(Request::Reconcile { sync: www.clone() }, "compared from the top")
    );
    let retry = Request::Retry { sync: www.clone(), target: Some("web3".to_owned()) };
    assert_eq!(press(&mut screen, KeyCode::Char('t')), Asked::Tell(retry, "tried again"));
    assert_eq!(press(&mut screen, KeyCode::Char('a')), Asked::Nothing);
    assert!(drawn(&screen).join("\n").contains("carry out the held deletes of www → web3? y/n"));
    assert_eq!(press(&mut screen, KeyCode::Char('n')), Asked::Nothing);
    press(&mut screen, KeyCode::Char('a'));
    let approve = Request::Approve { sync: www.clone(), target: Some("web3".to_owned()) };
    assert_eq!(press(&mut screen, KeyCode::Char('y')), Asked::Tell(approve, "approved"));
    screen.report.syncs[0].targets[1].state = "paused".to_owned();
    assert_eq!(press(&mut screen, KeyCode::Char('p')), Asked::Tell(Request::Resume { sync: www }, "resumed"));
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Asked::Leave);
}

#[test]
fn a_name_drives_no_terminal_and_a_lost_daemon_is_told() {
    let mut screen = screen();
    let problem = ProblemReport { path: "\u{1b}[2J".to_owned(), ..ProblemReport::default() };
    screen.report.syncs[0].targets[0].problems = vec![problem];
    screen.lost = Some("/run/speil/control: no such file or directory (ENOENT)".to_owned());
    let text = drawn(&screen).join("\n");
    assert!(!text.contains('\u{1b}') && text.contains("no daemon: /run/speil/control"), "{text}");
}

#[test]
fn a_small_window_shows_the_picked_target() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Down);
    let mut terminal = Terminal::new(TestBackend::new(40, 9)).unwrap();
    terminal.draw(|frame| view::draw(&screen, frame)).unwrap();
    let text = format!("{:?}", terminal.backend().buffer());
    assert!(text.contains("▶ www → web2") && text.contains("↑ 1 worse, ↓ 0 better"), "{text}");
    let mut tiny = Terminal::new(TestBackend::new(5, 2)).unwrap();
    tiny.draw(|frame| view::draw(&screen, frame)).unwrap();
}

#[test]
fn paths_that_fail_come_before_empty_lines_and_what_is_cut_is_counted() {
    let mut screen = screen();
    let problem = |number| ProblemReport {
        path: format!("\"path {number}\""),
        operation: "update".to_owned(),
        error: "permission denied (EACCES)".to_owned(),
        ..ProblemReport::default()
    };
    screen.report.syncs[0].targets.truncate(1);
    screen.report.syncs[0].targets[0].problems = (0..30).map(problem).collect();
    let lines = drawn(&screen);
    let text = lines.join("\n");
    let named = lines.iter().filter(|line| line.contains("update \"path ")).count();
    // Of 20 lines 3 are around the targets, and 6 are this one's own.
    assert_eq!(named, 10, "{text}");
    assert!(text.contains("and 20 more: speil status") && text.contains("MB/s"), "{text}");
    let mut terminal = Terminal::new(TestBackend::new(100, 10)).unwrap();
    terminal.draw(|frame| view::draw(&screen, frame)).unwrap();
    let text = format!("{:?}", terminal.backend().buffer());
    assert!(text.contains("1 of 30: update"), "{text}");
    screen.report.syncs.push(SyncReport {
        name: "idle".to_owned(),
        error: Some("source /x: no such file or directory (ENOENT)".to_owned()),
        ..SyncReport::default()
    });
    assert!(drawn(&screen)[1].contains("idle not started: source /x"));
}

#[test]
fn what_is_picked_stays_picked_when_something_worse_comes() {
    let mut screen = screen();
    press(&mut screen, KeyCode::Down);
    assert_eq!(screen.pick().unwrap().1, "web2");
    let mut worse = report(0, 0);
    worse.syncs[0].targets.insert(0, target("web1", "down"));
    screen.take(worse, Instant::now());
    assert_eq!(screen.pick().unwrap().1, "web2");
    let mut untouched = self::screen();
    untouched.take(report(0, 0), Instant::now());
    assert_eq!(untouched.pick().unwrap().1, "web3", "until somebody picks, it is the worst");
}

#[test]
fn the_keys_are_listed_and_the_graphs_begin_with_what_the_daemon_kept() {
    let mut screen = Screen::default();
    let samples = (0..40).map(|time| crate::status::Sample { time, lag_ms: 5000, bytes: 2_000_000 });
    screen.history.begin(vec![crate::status::Series {
        sync: "www".to_owned(),
        target: "web2".to_owned(),
        samples: samples.collect(),
        ..crate::status::Series::default()
    }]);
    screen.take(report(0, 0), Instant::now());
    assert_eq!(screen.history.of("www", "web2").unwrap().lag_ms.len(), 41);
    press(&mut screen, KeyCode::Char('?'));
    let text = drawn(&screen).join("\n");
    assert!(
        text.contains("pause the sync of the picked target") && text.contains("Any key goes back"),
        "{text}"
    );
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Asked::Nothing, "any key goes back");
    assert!(drawn(&screen).join("\n").contains("www → web2"));
}
