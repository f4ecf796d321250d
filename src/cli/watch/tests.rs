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
        text.contains("▶ www → web2 live for 60 s") && text.contains("www → web3 down for 60 s"),
        "{text}"
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
    press(&mut screen, KeyCode::Down);
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
    assert!(text.contains("▶ www → web3"), "{text}");
    let mut tiny = Terminal::new(TestBackend::new(5, 2)).unwrap();
    tiny.draw(|frame| view::draw(&screen, frame)).unwrap();
}
