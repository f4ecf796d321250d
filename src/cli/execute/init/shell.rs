//! Commands that are printed before they run.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::cli::exit::Exit;
use crate::error::io_text;
use crate::tree::shell_word;

/// Why the set-up ends: the exit code, and what is still to be said with its hint.
#[derive(Debug)]
pub(super) struct Stop {
    pub code: u8,
    pub said: Option<(String, Option<String>)>,
}

impl Stop {
    pub(super) fn new(exit: Exit, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: exit.code(), said: Some((text.into(), Some(hint.into()))) }
    }

    pub(super) fn plain(exit: Exit, text: impl Into<String>) -> Self {
        Self { code: exit.code(), said: Some((text.into(), None)) }
    }

    /// Says which file failed.
    pub(super) fn file(path: &Path, error: &io::Error) -> Self {
        Self::plain(Exit::File, format!("{}: {}", path.display(), io_text(error)))
    }
}

/// How a command ended.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    line: String,
}

impl Ran {
    pub(super) fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Ends the set-up with the code of a command that failed.
    pub(super) fn or_stop(self) -> Result<(), Stop> {
        if self.succeeded() {
            return Ok(());
        }
        let code = self.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Signal.code());
        let text = format!("stopped, because this ended with {code}: {}", self.line);
        let hint = "type speil init with the same words again when it is solved: it goes on from here";
        Err(Stop { code, said: Some((text, Some(hint.to_owned()))) })
    }
}

/// Runs commands, or only prints them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shell {
    pub dry_run: bool,
}

impl Shell {
    /// Prints a line as one that could be typed.
    pub(super) fn show(self, line: &str) {
        super::print(&format!("+ {line}\n"));
    }

    /// Runs a command; its output is ours.
    pub(super) fn run(self, command: &mut Command) -> Result<Ran, Stop> {
        self.go(command, None, false)
    }

    /// As [`Self::run`], with one line as its input.
    pub(super) fn run_with(self, command: &mut Command, input: &str) -> Result<Ran, Stop> {
        self.go(command, Some(input), false)
    }

    /// Runs a command and returns what it prints on standard output.
    pub(super) fn ask(self, command: &mut Command) -> Result<Ran, Stop> {
        self.go(command, None, true)
    }

    fn go(self, command: &mut Command, input: Option<&str>, captured: bool) -> Result<Ran, Stop> {
        let line = line_of(command);
        match input {
            Some(input) => self.show(&format!("echo {} | {line}", shell_word(input))),
            None => self.show(&line),
        }
        if self.dry_run {
            return Ok(Ran::default());
        }
        run_quietly(command, input, captured, line)
    }
}

/// Runs a command that only looks something up on this host, and is not printed.
pub(super) fn look_up(command: &mut Command) -> Result<Ran, Stop> {
    let line = line_of(command);
    run_quietly(command.stderr(Stdio::null()), Some(""), true, line)
}

fn run_quietly(
    command: &mut Command,
    input: Option<&str>,
    captured: bool,
    line: String,
) -> Result<Ran, Stop> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    if captured {
        command.stdout(Stdio::piped());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |error: &io::Error| {
        let text = format!("start {program}: {}", io_text(error));
        match program.starts_with("ssh") && error.kind() == io::ErrorKind::NotFound {
            true => Stop::new(Exit::RemoteShell, text, "install the ssh client (openssh-client)"),
            false => Stop::plain(Exit::RemoteShell, text),
        }
    };
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // One that does not read its input says why by its exit code.
        let _ = writeln!(stdin, "{input}");
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if output.status.signal() == Some(libc::SIGINT) {
        return Err(Stop { code: Exit::Signal.code(), said: None });
    }
    Ok(Ran { status: output.status, stdout: String::from_utf8_lossy(&output.stdout).into_owned(), line })
}

/// Returns this executable as a command.
pub(super) fn speil() -> Command {
    Command::new(std::env::current_exe().unwrap_or_else(|_| "speil".into()))
}

/// Returns a command as a shell reads it; this executable by its name.
pub(super) fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| shell_word(&String::from_utf8_lossy(word.as_bytes()))).collect::<Vec<_>>().join(" ")
}
