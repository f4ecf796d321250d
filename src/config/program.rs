//! Programs that the configuration names, run to their end.
//!
//! **In → Out:** words, variables, a text as standard input → an exit code, and what was said last on standard
//! error. **Invariants:** no shell; a program that takes too long is killed with all that it started, and one that
//! does not read its input, or leaves something behind that holds its standard error, holds nobody up.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is kept of the end of standard error, in bytes.
const SAID_MAX: usize = 2048;
/// How long after the end of a program its last words are waited for.
const SAID_WAIT: Duration = Duration::from_millis(500);

/// A program and what it is given.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The program and its arguments.
    pub words: &'a [String],
    /// Variables of its environment besides those of this process.
    pub variables: &'a [(&'static str, String)],
    /// What it reads on standard input.
    pub input: &'a [u8],
}

impl Program<'_> {
    /// Runs it; returns its exit code. Where `said` is given, it becomes the last line of standard error.
    ///
    /// # Errors
    /// Why there is no exit code, in one line.
    pub fn run(&self, until: Instant, said: Option<&mut String>) -> Result<i32, String> {
        let (program, arguments) = self.words.split_first().ok_or("the command is empty")?;
        let fail = |error: std::io::Error| format!("{program}: {}", crate::error::io_text(&error));
        let mut command = Command::new(program);
        let hears = if said.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(hears);
        let mut child = command.process_group(0).spawn().map_err(fail)?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input.to_vec();
            // A program that does not read must not hold anybody up.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let heard = listen(&mut child);
        let ended = loop {
            if let Some(status) = child.try_wait().map_err(fail)? {
                break status.code().ok_or_else(|| format!("{program}: ended by a signal"));
            }
            if Instant::now() >= until {
                kill(&mut child);
                break Err(format!("{program}: it ran for too long and was killed"));
            }
            // There is nothing to wait on that has a time limit as well.
            std::thread::sleep(Duration::from_millis(10));
        };
        if let (Some(said), Some(heard)) = (said, heard) {
            let text = heard.recv_timeout(SAID_WAIT).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            *said = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned();
        }
        ended
    }
}

/// Reads standard error to its end on a thread of its own, and hands on the last of it.
fn listen(child: &mut Child) -> Option<crossbeam_channel::Receiver<Vec<u8>>> {
    let mut stderr = child.stderr.take()?;
    let (tell, heard) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let (mut last, mut piece) = (Vec::new(), [0; SAID_MAX]);
        while let Ok(length) = stderr.read(&mut piece) {
            if length == 0 {
                break;
            }
            last.extend_from_slice(piece.get(..length).unwrap_or_default());
            let surplus = last.len().saturating_sub(SAID_MAX);
            last.drain(..surplus);
        }
        let _ = tell.send(last);
    });
    Some(heard)
}

fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let _ = group.map(|group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL));
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> (Result<i32, String>, String) {
        let words = ["sh", "-c", script].map(str::to_owned);
        let program = Program { words: &words, variables: &[("WORD", "w".to_owned())], input: b"in" };
        let mut said = String::new();
        (program.run(Instant::now() + limit, Some(&mut said)), said)
    }

    #[test]
    fn a_program_gets_its_input_and_variables_and_its_last_words_are_heard() {
        let hour = Duration::from_secs(3600);
        let script = "echo first >&2; echo \"$(cat) $WORD\" >&2; echo >&2; exit 7";
        assert_eq!(run(script, hour), (Ok(7), "in w".to_owned()));
        // What it leaves behind holds its standard error open, and nobody up.
        assert_eq!(run("sleep 30 & exit 0", hour).0, Ok(0));
        let (ended, _) = run("kill -9 $$", hour);
        assert_eq!(ended, Err("sh: ended by a signal".to_owned()));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_what_it_started() {
        let (ended, said) = run("echo begun >&2; sleep 3000", Duration::ZERO);
        assert_eq!(ended, Err("sh: it ran for too long and was killed".to_owned()));
        assert!(said.is_empty() || said == "begun", "{said}");
        let words = ["/nowhere/at/all".to_owned()];
        let none = Program { words: &words, variables: &[], input: b"" };
        assert_eq!(
            none.run(Instant::now(), None),
            Err("/nowhere/at/all: no such file or directory (ENOENT)".to_owned())
        );
    }
}
