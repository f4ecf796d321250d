//! What the screen looks like.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline};

use super::Screen;
use super::history::Track;
use crate::status::{SyncReport, TargetReport};

/// Lines of one target: heading, figures, two graphs, and what is wrong.
const TARGET_LINES: u16 = 7;

/// Draws all of it.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(2)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(screen)), top);
    targets(screen, frame, middle);
    let keys = "↑↓ target   p pause/resume   r reconcile   a carry out deletes   q quit";
    let message = match (&screen.asks, &screen.lost) {
        (Some((_, _, question)), _) => Line::styled(question.clone(), bold(Color::Yellow)),
        (None, Some(lost)) => Line::styled(format!("no daemon: {}", plain(lost)), bold(Color::Red)),
        (None, None) => Line::raw(plain(&screen.message)),
    };
    frame.render_widget(Paragraph::new(vec![message, Line::styled(keys, Modifier::DIM)]), bottom);
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

fn targets(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let named = screen.report.syncs.iter();
    let all: Vec<(&SyncReport, &TargetReport)> =
        named.flat_map(|sync| sync.targets.iter().map(move |target| (sync, target))).collect();
    let fit = usize::from(area.height / TARGET_LINES).max(1);
    let first = screen.picked.saturating_sub(fit - 1);
    for (row, (at, (sync, target))) in all.iter().enumerate().skip(first).take(fit).enumerate() {
        let top = area.y + TARGET_LINES * u16::try_from(row).unwrap_or(u16::MAX / TARGET_LINES);
        let height = TARGET_LINES.min(area.bottom().saturating_sub(top));
        let place = Rect { x: area.x, y: top, width: area.width, height };
        one(screen, frame, place, (sync, target, at == screen.picked));
    }
    if all.is_empty() && screen.lost.is_none() {
        frame.render_widget(Paragraph::new("no sync has started a target yet"), area);
    }
}

fn one(screen: &Screen, frame: &mut Frame<'_>, area: Rect, which: (&SyncReport, &TargetReport, bool)) {
    let (sync, target, picked) = which;
    let mark = if picked { "▶ " } else { "" };
    let title = Line::from(vec![
        Span::raw(format!("{mark}{} → {} ", plain(&sync.name), plain(&target.name))),
        Span::styled(state(screen, target), bold(color(&target.state))),
    ]);
    let border = if picked { Style::new().fg(Color::Cyan) } else { Style::new().add_modifier(Modifier::DIM) };
    let block = Block::new().borders(Borders::TOP).border_style(border).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(1),
    ]);
    let [figures, lag, rate, wrong] = rows.areas(inner);
    frame.render_widget(Paragraph::new(words(target)), figures);
    let track = screen.history.of(&sync.name, &target.name);
    let now = |values: Option<u64>| values.unwrap_or(0);
    let last_rate = now(track.and_then(|track| track.rate.back().copied()));
    graph(frame, lag, (&lag_text(target), track.map(|track| &track.lag_ms), Color::Yellow));
    graph(frame, rate, (&format!("{}/s", size(last_rate)), track.map(|track| &track.rate), Color::Green));
    frame.render_widget(Paragraph::new(trouble(target)), wrong);
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
    format!("{} for {since} s", plain(&target.state.replace('_', " ")))
}

fn words(target: &TargetReport) -> Line<'static> {
    let pass = target
        .last_pass
        .map_or_else(String::new, |_| format!("  last pass: {} differed", target.last_pass_different));
    Line::raw(format!(
        "{} queued  {} files, {} sent{pass}  {}",
        target.queued,
        target.files,
        size(target.sent_bytes),
        plain(&target.target)
    ))
}

fn trouble(target: &TargetReport) -> Line<'static> {
    if let Some(error) = &target.error {
        return Line::styled(plain(error), Color::Red);
    }
    if target.held > 0 {
        let reason = target.held_reason.as_deref().unwrap_or("held");
        return Line::styled(
            format!("{} deletes held: {}; a carries them out", target.held, plain(reason)),
            Color::Yellow,
        );
    }
    match target.problems.as_slice() {
        [] => Line::default(),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!("; {} more", rest.len()) };
            let text = format!("{} {}: {}{more}", first.operation, first.path, first.error);
            Line::styled(plain(&text), Color::Red)
        }
    }
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
