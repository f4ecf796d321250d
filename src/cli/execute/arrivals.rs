//! `speil arrivals`: tells what has arrived on a target, or runs a command for it.
//!
//! **Invariants:** one run at a time; what a run has told is remembered only once it has succeeded; paths go to
//! standard input alone, never into arguments or the environment.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{complain_text, note};
use crate::cli::arrivals::{ArrivalsOf, Wanted};
use crate::cli::exit::Exit;
use crate::error::io_text;
use crate::monitor::spanned;
use crate::receiver::{Arrival, Arrivals, Changed};
use crate::tree::{quote, shell_word};

/// How long a command that has failed waits for its next run, the first time and at most.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// How often is asked whether the directory is still the same one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Paths beyond this become "everything".
const PATHS_MAX: usize = 100_000;
/// What stands for "everything".
const EVERYTHING: &[u8] = b".";

/// What is to be told.
#[derive(Debug, Default)]
struct Due {
    everything: bool,
    paths: BTreeSet<Changed>,
    /// Since when, and when something was added last.
    times: Option<(Instant, Instant)>,
}

impl Due {
    fn everything() -> Self {
        // Nothing more has to come.
        Self { everything: true, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        !self.everything && self.paths.is_empty()
    }

    fn add(&mut self, arrival: Arrival, wanted: &Wanted) {
        let before = (self.everything, self.paths.len());
        match arrival {
            Arrival::Everything => self.everything = true,
            Arrival::Paths(paths) => self.paths.extend(paths.into_iter().filter(|it| wanted.has(it))),
        }
        self.everything |= self.paths.len() > PATHS_MAX;
        if self.everything {
            self.paths.clear();
        }
        if (self.everything, self.paths.len()) != before {
            let now = Instant::now();
            self.times = Some((self.times.map_or(now, |(since, _)| since), now));
        }
    }

    /// Returns how long to wait before it is told; zero if it is due now.
    fn waits(&self, quiet: Duration) -> Duration {
        let Some((since, last)) = self.times else { return Duration::ZERO };
        let due = (last + quiet).min(since + quiet * 10);
        due.saturating_duration_since(Instant::now())
    }

    /// Returns the paths, a directory that changed whole with a slash behind it.
    fn lines(&self) -> Vec<Vec<u8>> {
        if self.everything {
            return vec![EVERYTHING.to_vec()];
        }
        let line = |it: &Changed| [it.path.as_bytes(), if it.whole { b"/" } else { b"" }].concat();
        self.paths.iter().map(line).collect()
    }
}

/// Why it ends.
enum Ends {
    With(u8),
    For(Exit, String),
}

/// Runs until stopped; with `--once` until something was told.
pub(super) fn run(it: &ArrivalsOf) -> u8 {
    let patterns: Vec<Vec<u8>> = it.paths.iter().map(|it| it.as_bytes().to_vec()).collect();
    let wanted = match Wanted::new(&patterns) {
        Ok(wanted) => wanted,
        Err(error) => {
            complain_text(&format!("--path: {error}"), None);
            return Exit::Syntax.code();
        }
    };
    match follow(it, &wanted) {
        Ends::With(code) => code,
        Ends::For(exit, text) => {
            complain_text(&text, None);
            exit.code()
        }
    }
}

fn follow(it: &ArrivalsOf, wanted: &Wanted) -> Ends {
    let (mut arrivals, mut due) = match begin(it) {
        Ok(begun) => begun,
        Err(ends) => return ends,
    };
    let mut pause = AGAIN_FIRST;
    let mut not_before = None;
    loop {
        let taken = match arrivals.take() {
            Ok(taken) => taken,
            Err(error) => {
                return Ends::For(Exit::File, format!("{}: {}", it.root.display(), io_text(&error)));
            }
        };
        taken.into_iter().for_each(|arrival| due.add(arrival, wanted));
        let failed: Option<Instant> = not_before;
        let failed = failed.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let waits = due.waits(it.quiet).max(failed);
        if due.is_empty() || !waits.is_zero() {
            if !arrivals.is_of(&it.root) {
                let what = "is another directory now, or is gone; start speil arrivals again";
                return Ends::For(Exit::Selection, format!("{} {what}", it.root.display()));
            }
            arrivals.wait(if due.is_empty() { LOOK_EVERY } else { waits.min(LOOK_EVERY) });
            continue;
        }
        match tell(it, &due) {
            Ok(code) if code != 0 && !it.once => {
                let again = spanned(pause.as_secs());
                complain_text(&format!("{} ended with {code}; again in {again}", command_of(it)), None);
                not_before = Some(Instant::now() + pause);
                pause = (pause * 2).min(AGAIN_MAX);
                continue;
            }
            Ok(0) => {
                (due, not_before, pause) = (Due::default(), None, AGAIN_FIRST);
                if let Err(ends) = remember(it, arrivals.position()) {
                    return ends;
                }
                if it.once {
                    return Ends::With(0);
                }
            }
            Ok(code) => return Ends::With(code),
            // Whoever read what is printed has ended.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ends::With(0),
            Err(error) => {
                return Ends::For(Exit::File, format!("{}: {}", command_of(it), io_text(&error)));
            }
        }
    }
}

/// Opens the ring where this reader was before.
fn begin(it: &ArrivalsOf) -> Result<(Arrivals, Due), Ends> {
    let root = it.root.display();
    let mut arrivals = Arrivals::open(&it.root).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!(
                    "{root}: {}; only root, and the user whom its .speil belongs to, may read what arrives",
                    io_text(&error)
                )
            }
            _ => format!("{root}: {}", io_text(&error)),
        };
        Ends::For(Exit::Selection, text)
    })?;
    if !arrivals.has_agent() {
        note(&format!("nothing was mirrored to {root} yet; what arrives is told once something is"));
    }
    let Some(file) = &it.remember else {
        return Ok((arrivals, if it.from_now || it.once { Due::default() } else { Due::everything() }));
    };
    let failed = |error: &io::Error| Ends::For(Exit::File, format!("{}: {}", file.display(), io_text(error)));
    match std::fs::read_to_string(file) {
        Ok(text) => match text.trim().parse() {
            Ok(position) => {
                arrivals.go_on(position).map_err(|error| failed(&error))?;
                Ok((arrivals, Due::default()))
            }
            Err(_) => {
                let text = "holds no position of speil arrivals; name another file, or remove this one";
                Err(Ends::For(Exit::File, format!("{} {text}", file.display())))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Whether it can be written is known before anything runs.
            write_position(file, arrivals.position()).map_err(|error| failed(&error))?;
            std::fs::remove_file(file).map_err(|error| failed(&error))?;
            Ok((arrivals, Due::everything()))
        }
        Err(error) => Err(failed(&error)),
    }
}

fn remember(it: &ArrivalsOf, position: u64) -> Result<(), Ends> {
    let Some(file) = &it.remember else { return Ok(()) };
    write_position(file, position)
        .map_err(|error| Ends::For(Exit::File, format!("{}: {}", file.display(), io_text(&error))))
}

fn write_position(file: &Path, position: u64) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, format!("{position}\n"))?;
    std::fs::rename(&new, file)
}

/// Tells what is due; returns what the command ended with.
fn tell(it: &ArrivalsOf, due: &Due) -> io::Result<u8> {
    let lines = due.lines();
    if it.command.is_empty() {
        return printed(it, due, &lines).map(|()| 0);
    }
    let mut child = Command::new(&it.command[0]).args(&it.command[1..]).stdin(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let bytes: Vec<u8> = lines.into_iter().flat_map(|line| [line, vec![0]].concat()).collect();
        // One that does not read has read enough.
        let _ = input.write_all(&bytes);
    }
    let status = child.wait()?;
    let signal = status.signal().map(|number| 128 + number);
    Ok(u8::try_from(status.code().or(signal).unwrap_or(1)).unwrap_or(1))
}

fn printed(it: &ArrivalsOf, due: &Due, lines: &[Vec<u8>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if it.json {
        let paths: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        let paths = if due.everything { Vec::new() } else { paths };
        writeln!(
            out,
            "{}",
            serde_json::json!({ "schema": 1, "everything": due.everything, "paths": paths })
        )?;
        return out.flush();
    }
    for line in lines {
        if it.nul {
            out.write_all(&[line.as_slice(), &[0]].concat())?;
        } else {
            let quoted = quote(line);
            let plain = quoted.trim_matches('"');
            writeln!(out, "{}", if plain.as_bytes() == line.as_slice() { plain } else { &quoted })?;
        }
    }
    out.flush()
}

fn command_of(it: &ArrivalsOf) -> String {
    if it.command.is_empty() {
        return "standard output".to_owned();
    }
    let words: Vec<String> = it.command.iter().map(|word| shell_word(&word.to_string_lossy())).collect();
    words.join(" ")
}
