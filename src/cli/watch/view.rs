//! What the screen looks like.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline, Wrap};

use super::history::Track;
use super::{Screen, rank};
use crate::monitor::{counted, spanned};
use crate::status::{SyncReport, TargetReport};

/// Lines of one target without what is wrong with it: heading, figures, two graphs.
const TARGET_LINES: usize = 6;
/// Lines of what is wrong that every target is given room for.
const WRONG_LINES: usize = 1;
/// Lines of what concerns no target.
const NOTES_MAX: usize = 4;

const KEYS: &str =
    "? keys   ↑↓ target   p pause/resume   r reconcile   t try again   a carry out deletes   q quit";
const HELP: &str = "\
↑ ↓ k j     pick another target; Home and End: the worst and the best
p           pause the sync of the picked target, or let it go on
r           compare the whole tree of the sync now
t           try again what fails, and connect to the target if it is down
a           carry out the held deletes of the picked target; asks first
q Esc       quit

Targets are sorted: down, deletes held, paths that fail, behind, first copy, paused, live.
The graphs show lag and bytes sent, one column a second.
Any key goes back.";

/// Draws all of it.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let notes = notes(screen);
    let rows = [
        Constraint::Length(1),
        Constraint::Length(height_of(notes.len())),
        Constraint::Min(1),
        Constraint::Length(2),
    ];
    let [top, told, middle, bottom] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(screen)), top);
    frame.render_widget(Paragraph::new(notes), told);
    if screen.helps {
        frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), middle);
    } else {
        targets(screen, frame, middle);
    }
    let message = match (&screen.asks, &screen.lost) {
        (Some((_, _, question)), _) => Line::styled(question.clone(), bold(Color::Yellow)),
        (None, Some(lost)) => Line::styled(format!("no daemon: {}", plain(lost)), bold(Color::Red)),
        (None, None) => Line::raw(plain(&screen.message)),
    };
    frame.render_widget(Paragraph::new(vec![message, Line::styled(KEYS, Modifier::DIM)]), bottom);
}

fn height_of(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

/// Returns what is wrong and concerns no target.
fn notes(screen: &Screen) -> Vec<Line<'static>> {
    let report = &screen.report;
    let refused = report.refused_reload.iter();
    let mut notes: Vec<String> =
        refused.map(|error| format!("new configuration refused, the old one is in force: {error}")).collect();
    for sync in &report.syncs {
        if !sync.running {
            notes.push(format!("{} not started: {}", sync.name, sync.why_not()));
        }
        notes.extend(sync.watch_problems.iter().map(|problem| format!("{}: {problem}", sync.name)));
    }
    let mut lines: Vec<Line<'static>> =
        notes.iter().map(|note| Line::styled(plain(note), Color::Red)).collect();
    cut(&mut lines, NOTES_MAX);
    lines
}

/// Keeps so many lines, the last of which says how many more there are.
fn cut(lines: &mut Vec<Line<'static>>, most: usize) {
    let all = lines.len();
    if all > 1 && most == 1 {
        // One line is better spent on the worst than on a count.
        lines[0].spans.insert(0, Span::raw(format!("1 of {all}: ")));
    } else if all > most && most > 0 {
        let left = all - (most - 1);
        lines.truncate(most - 1);
        lines.push(Line::styled(format!("and {left} more: speil status"), Modifier::DIM));
    }
    lines.truncate(most);
}

fn heading(screen: &Screen) -> Line<'static> {
    let report = &screen.report;
    let all = || report.syncs.iter().flat_map(|sync| &sync.targets);
    let live = all().filter(|target| target.state == "live").count();
    let problems: u64 = all().map(TargetReport::failing).sum();
    let idle = report.syncs.iter().filter(|sync| !sync.running).count();
    let mut wrong = if idle > 0 { format!("  {idle} syncs not started") } else { String::new() };
    if report.refused_reload.is_some() {
        wrong.push_str("  new configuration refused");
    }
    Line::from(vec![
        Span::styled(format!("speil {}", plain(&report.version)), Modifier::BOLD),
        Span::raw(format!("  process {}  {live} of {} targets live", report.pid, all().count())),
        Span::styled(
            format!("  {problems} problems"),
            if problems > 0 { bold(Color::Red) } else { Style::new() },
        ),
        Span::styled(wrong, bold(Color::Red)),
    ])
}

/// What is drawn of one target.
struct Part<'a> {
    sync: &'a SyncReport,
    target: &'a TargetReport,
    picked: bool,
    wrong: Vec<Line<'static>>,
}

fn targets(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let all = rank::worst_first(&screen.report);
    if all.is_empty() {
        if screen.lost.is_none() {
            frame.render_widget(Paragraph::new("no sync has started a target yet"), area);
        }
        return;
    }
    let parts: Vec<Part<'_>> = all
        .iter()
        .enumerate()
        .map(|(at, (sync, target))| Part { sync, target, picked: at == screen.picked, wrong: wrong(target) })
        .collect();
    let height = usize::from(area.height);
    let needs = |part: &Part<'_>| TARGET_LINES + part.wrong.len().min(WRONG_LINES);
    let whole: usize = parts.iter().map(needs).sum();
    // What does not fit is counted in a line of its own.
    let room = if whole > height { height.saturating_sub(1) } else { height };
    let (mut first, mut used) = (screen.picked, needs(&parts[screen.picked]));
    while first > 0 && used + needs(&parts[first - 1]) <= room {
        first -= 1;
        used += needs(&parts[first]);
    }
    let mut last = screen.picked + 1;
    while last < parts.len() && used + needs(&parts[last]) <= room {
        used += needs(&parts[last]);
        last += 1;
    }
    let mut spare = room.saturating_sub(used);
    let mut top = area.y;
    for part in &parts[first..last] {
        // Paths that fail come before empty lines.
        let more = part.wrong.len().saturating_sub(WRONG_LINES).min(spare);
        spare -= more;
        let lines = height_of(needs(part) + more).min(area.bottom().saturating_sub(top));
        one(screen, frame, Rect { x: area.x, y: top, width: area.width, height: lines }, part);
        top += lines;
    }
    let (above, below) = (first, parts.len() - last);
    if above + below > 0 && height > 1 {
        let told = format!("↑ {above} worse, ↓ {below} better: they do not fit here");
        let place = Rect { y: area.bottom() - 1, height: 1, ..area };
        frame.render_widget(Paragraph::new(Line::styled(told, Modifier::DIM)), place);
    }
}

fn one(screen: &Screen, frame: &mut Frame<'_>, area: Rect, part: &Part<'_>) {
    let Part { sync, target, picked, .. } = *part;
    let mark = if picked { "▶ " } else { "" };
    let title = Line::from(vec![
        Span::raw(format!("{mark}{} → {} ", plain(&sync.name), plain(&target.name))),
        Span::styled(state(screen, target), bold(color(&target.state))),
    ]);
    let border = if picked { Style::new().fg(Color::Cyan) } else { Style::new().add_modifier(Modifier::DIM) };
    let block = Block::new().borders(Borders::TOP).border_style(border).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut wrong = part.wrong.clone();
    cut(&mut wrong, usize::from(area.height).saturating_sub(TARGET_LINES));
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height_of(wrong.len())),
        Constraint::Length(2),
        Constraint::Length(2),
    ]);
    let [figures, trouble, lag, rate] = rows.areas(inner);
    frame.render_widget(Paragraph::new(words(screen, target)), figures);
    frame.render_widget(Paragraph::new(wrong), trouble);
    let track = screen.history.of(&sync.name, &target.name);
    let now = |values: Option<u64>| values.unwrap_or(0);
    let last_rate = now(track.and_then(|track| track.rate.back().copied()));
    graph(frame, lag, (&lag_text(target), track.map(|track| &track.lag_ms), Color::Yellow));
    graph(frame, rate, (&format!("{}/s", size(last_rate)), track.map(|track| &track.rate), Color::Green));
}

type Values<'a> = (&'a str, Option<&'a std::collections::VecDeque<u64>>, Color);

fn graph(frame: &mut Frame<'_>, area: Rect, (label, values, color): Values<'_>) {
    let [left, right] = Layout::horizontal([Constraint::Length(14), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(label.to_owned()), left);
    let shown = values.map_or_else(Vec::new, |values| Track::latest(values, usize::from(right.width)));
    frame.render_widget(Sparkline::default().data(&shown).style(Style::new().fg(color)), right);
}

fn state(screen: &Screen, target: &TargetReport) -> String {
    let since = screen.report.time.saturating_sub(target.since);
    format!("{} for {}", plain(&target.state.replace('_', " ")), spanned(since))
}

fn words(screen: &Screen, target: &TargetReport) -> Line<'static> {
    let done = match target.copy.as_ref().filter(|_| target.state == "first_pass") {
        Some(copy) => crate::status::copy_text(copy, target, screen.report.time),
        None => {
            let files = counted(target.files, "file", "files");
            let pass = target.last_pass.map_or_else(String::new, |_| {
                format!("  last pass: {} differed", target.last_pass_different)
            });
            format!("{files}, {} sent{pass}", size(target.sent_bytes))
        }
    };
    Line::raw(format!("{} queued  {}  {}", target.queued, plain(&done), plain(&target.target)))
}

/// Returns what is wrong with a target, the worst first, a line each.
fn wrong(target: &TargetReport) -> Vec<Line<'static>> {
    let red = |text: &str| Line::styled(plain(text), Color::Red);
    let mut lines: Vec<Line<'static>> = target.error.iter().map(|error| red(error)).collect();
    if let Some(hint) = &target.hint {
        lines.push(Line::raw(plain(&format!("hint: {hint}"))));
    }
    if target.held > 0 {
        let held = counted(target.held as u64, "delete", "deletes");
        let reason = target.held_reason.as_deref().unwrap_or("held");
        let text = format!("{held} held: {}; a carries them out", plain(reason));
        lines.push(Line::styled(text, Color::Yellow));
        if !target.held_first.is_empty() {
            let first = format!("the first of them: {}", target.held_first.join(", "));
            lines.push(Line::styled(plain(&first), Color::Yellow));
        }
    }
    let failing = target.problems.iter();
    lines.extend(
        failing.map(|failed| red(&format!("{} {}: {}", failed.operation, failed.path, failed.error))),
    );
    if target.more_problems > 0 {
        lines.push(red(&counted(target.more_problems, "more path fails", "more paths fail")));
    }
    lines
}

fn color(state: &str) -> Color {
    match state {
        "live" => Color::Green,
        "down" => Color::Red,
        _ => Color::Yellow,
    }
}

fn bold(color: Color) -> Style {
    Style::new().fg(color).add_modifier(Modifier::BOLD)
}

fn lag_text(target: &TargetReport) -> String {
    if !target.known {
        return "lag unknown".to_owned();
    }
    format!("lag {:.1} s", Duration::from_millis(target.lag_ms).as_secs_f64())
}

fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Returns text without anything that drives a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
