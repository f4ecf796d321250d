//! `speil status --watch`: the state of a daemon, full-screen.
//!
//! **In → out:** reports and keys → a screen, and requests to the daemon. **Invariants:** the terminal is
//! given back however it ends; a daemon that goes away is told and looked for again; no name in a report
//! drives the terminal. **Not here:** the socket itself (`daemon`).

mod history;
mod rank;
mod view;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::daemon;
use crate::error::io_text;
use crate::status::{Answer, Report, Request};
use history::History;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Longest time that an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a key asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Nothing,
    Leave,
    Tell(Request, &'static str),
}

/// What the screen shows.
#[derive(Debug, Default)]
struct Screen {
    report: Report,
    history: History,
    /// Which target is picked, by its place on the screen.
    picked: usize,
    /// Whether somebody has picked one: until then it is the worst.
    moved: bool,
    /// Whether the keys are shown.
    helps: bool,
    /// The last thing that happened.
    message: String,
    /// A request that waits for a yes.
    asks: Option<(Request, &'static str, String)>,
    /// Why there is no daemon.
    lost: Option<String>,
}

impl Screen {
    /// Takes a new look in.
    fn take(&mut self, report: Report, now: Instant) {
        self.history.add(&report, now);
        let picked = self.pick().filter(|_| self.moved);
        self.report = report;
        self.lost = None;
        let all = rank::worst_first(&self.report);
        // What is picked stays so, wherever it comes to stand.
        let named = |(sync, target): &(String, String)| {
            all.iter().position(|(one, other)| one.name == *sync && other.name == *target)
        };
        let last = all.len().saturating_sub(1);
        self.picked = picked.as_ref().and_then(named).unwrap_or(self.picked).min(last);
    }

    fn len(&self) -> usize {
        self.report.syncs.iter().map(|sync| sync.targets.len()).sum()
    }

    /// Returns the names of the picked sync and target.
    fn pick(&self) -> Option<(String, String)> {
        let all = rank::worst_first(&self.report);
        all.get(self.picked).map(|(sync, target)| (sync.name.clone(), target.name.clone()))
    }

    fn is_paused(&self) -> bool {
        let all = rank::worst_first(&self.report);
        all.get(self.picked).is_some_and(|(_, target)| target.state == "paused")
    }

    /// Picks another target.
    fn go(&mut self, to: usize) {
        self.picked = to.min(self.len().saturating_sub(1));
        self.moved = true;
    }

    /// Says what a key asks for.
    fn key(&mut self, key: KeyEvent) -> Asked {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Asked::Leave;
        }
        if let Some((request, done, _)) = self.asks.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return Asked::Tell(request, done);
            }
            self.message = "nothing was done".to_owned();
            return Asked::Nothing;
        }
        if self.helps {
            // Any key goes back, and does nothing else.
            self.helps = false;
            return Asked::Nothing;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Asked::Leave,
            KeyCode::Char('?' | 'h') => self.helps = true,
            KeyCode::Down | KeyCode::Char('j') => self.go(self.picked.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.go(self.picked.saturating_sub(1)),
            KeyCode::Home => self.go(0),
            KeyCode::End => self.go(usize::MAX),
            KeyCode::Char(letter) => return self.command(letter),
            _ => {}
        }
        Asked::Nothing
    }

    fn command(&mut self, letter: char) -> Asked {
        let Some((sync, target)) = self.pick() else { return Asked::Nothing };
        let name = Some(sync.clone());
        match letter {
            'p' if self.is_paused() => Asked::Tell(Request::Resume { sync: name }, "resumed"),
            'p' => Asked::Tell(Request::Pause { sync: name }, "paused"),
            'r' => Asked::Tell(Request::Reconcile { sync: name }, "compared from the top"),
            't' => Asked::Tell(Request::Retry { sync: name, target: Some(target) }, "tried again"),
            'a' => {
                let request = Request::Approve { sync: name, target: Some(target.clone()) };
                let question = format!("carry out the held deletes of {sync} → {target}? y/n");
                self.asks = Some((request, "approved", question));
                Asked::Nothing
            }
            _ => Asked::Nothing,
        }
    }

    /// Takes in what came of a request.
    fn told(&mut self, request: &Request, done: &str, answer: io::Result<Answer>) {
        let sync = match request {
            Request::Pause { sync } | Request::Resume { sync } | Request::Reconcile { sync } => sync.clone(),
            Request::Approve { sync, .. } | Request::Retry { sync, .. } => sync.clone(),
            _ => None,
        };
        self.message = match answer {
            Ok(Answer::Done { count }) if matches!(request, Request::Approve { .. }) => {
                format!("{}: {count} deletes {done}", sync.unwrap_or_default())
            }
            Ok(Answer::Done { .. }) => format!("{}: {done}", sync.unwrap_or_default()),
            Ok(Answer::Failed { error, .. }) => error,
            Ok(_) => "the daemon gave an answer of another version".to_owned(),
            Err(error) => io_text(&error),
        };
    }
}

/// Shows a daemon until a key says that it is enough.
///
/// # Errors
/// What the terminal says.
pub(super) fn run(socket: &Path) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let done = show(&mut terminal, socket);
    ratatui::restore();
    done
}

/// Gives the terminal back, from whichever thread.
pub(super) fn give_back() {
    ratatui::restore();
}

fn show(terminal: &mut ratatui::DefaultTerminal, socket: &Path) -> io::Result<()> {
    let mut screen = Screen::default();
    // A daemon of another version has nothing to tell.
    if let Ok(Answer::Series { series }) = daemon::ask(socket, &Request::Series, Some(ANSWER_MAX)) {
        screen.history.begin(series);
    }
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            match daemon::ask(socket, &Request::Status, Some(ANSWER_MAX)) {
                Ok(Answer::Status(report)) => screen.take(report, Instant::now()),
                Ok(_) => screen.lost = Some("the daemon gave an answer of another version".to_owned()),
                Err(error) => screen.lost = Some(format!("{}: {}", socket.display(), io_text(&error))),
            }
        }
        terminal.draw(|frame| view::draw(&screen, frame))?;
        if !event::poll(next.saturating_duration_since(Instant::now()))? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match screen.key(key) {
            Asked::Nothing => {}
            Asked::Leave => return Ok(()),
            Asked::Tell(request, done) => {
                let answer = daemon::ask(socket, &request, Some(ANSWER_MAX));
                screen.told(&request, done, answer);
                next = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests;
