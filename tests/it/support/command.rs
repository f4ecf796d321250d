//! Commands: speil in an environment of its own, processes that end with their guard, waiting.
//!
//! **Invariants:** a spawned process and its group are killed when their guard goes; output is
//! captured whole and shown when a wait fails; [`eventually`] is the only way to wait.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tempfile::TempDir;

use super::process;

/// The `speil` executable that was built with the tests.
pub const SPEIL: &str = env!("CARGO_BIN_EXE_speil");

/// Copies the program to where a test runs it from. Another process writes it: a child that another test forks would
/// inherit a descriptor of this one, and until it is closed nobody may run the file (ETXTBSY).
pub fn copy_program(to: &Path) {
    let done = Command::new("cp").arg(SPEIL).arg(to).status().unwrap();
    assert!(done.success(), "cp {}: {done}", to.display());
}

/// How long any wait may take: far above what a loaded machine needs, so that only a defect meets it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the command that starts the agent on a target which is this host.
pub fn agent_command() -> String {
    format!("{SPEIL} agent")
}

/// Waits until `condition` holds: the one waiting primitive of the tests.
///
/// # Panics
/// If it does not hold within [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(DEADLINE, condition), "still waiting for: {what}");
}

/// Returns whether `condition` came to hold before `deadline` had passed.
pub fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// An environment in which nothing of the user's shows: an empty home and the C locale.
pub struct Environment {
    home: TempDir,
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment {
    /// Makes an empty home directory.
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary home") }
    }

    /// Returns the home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns `program` as a command in this environment; only PATH is inherited.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home()).env("LC_ALL", "C").stdin(Stdio::null());
        // Root's would be the host's own.
        command.env("XDG_STATE_HOME", self.home().join("state"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        // Tests that are started in the background have signals ignored, and would hand that on.
        let listen = || {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
                // SAFETY: signal(2) may be called between fork and exec, and the default action has no handler.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: `listen` allocates nothing and takes no lock.
        unsafe { command.pre_exec(listen) };
        command
    }

    /// Returns `speil` with `arguments`.
    pub fn speil<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(SPEIL);
        command.args(arguments);
        command
    }

    /// Runs `speil` with `arguments` to its end.
    #[must_use = "an outcome that nobody looks at proves nothing"]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        Background::spawn(self.speil(arguments)).wait()
    }

    /// Starts `speil` with `arguments`.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Background {
        Background::spawn(self.speil(arguments))
    }
}

/// How a command ended and what it said; bytes that are no UTF-8 are replaced.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit status.
    pub status: ExitStatus,
    /// The lines of standard output.
    pub stdout: String,
    /// The lines of standard error.
    pub stderr: String,
}

impl Outcome {
    /// Returns the exit code; -1 for one that a signal ended.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Returns the outcome if the command succeeded.
    ///
    /// # Panics
    /// With everything the command said, if it failed.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}\nstdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Lines as they come, and a bell for who waits for them.
#[derive(Default)]
struct Captured {
    stdout: Mutex<Vec<String>>,
    stderr: Mutex<Vec<String>>,
    closed: Mutex<usize>,
    bell: Condvar,
}

fn lines_of(lines: &Mutex<Vec<String>>) -> Vec<String> {
    lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A process that runs until its guard goes; it and its process group are killed then.
pub struct Background {
    child: Child,
    captured: Arc<Captured>,
    readers: Vec<JoinHandle<()>>,
    ended: bool,
}

impl Background {
    /// Starts `command` in a process group of its own and captures what it says.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let captured = Arc::new(Captured::default());
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(capture(stdout, &captured, |captured| &captured.stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(capture(stderr, &captured, |captured| &captured.stderr));
        }
        Self { child, captured, readers, ended: false }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended.
    pub fn is_running(&self) -> bool {
        !self.ended && process::is_running(self.pid())
    }

    /// Returns the lines of standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        lines_of(&self.captured.stdout)
    }

    /// Returns the lines of standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        lines_of(&self.captured.stderr)
    }

    /// Waits for a line on standard output that contains `text`, and returns it.
    ///
    /// # Panics
    /// With everything the process said, if it ends before or [`DEADLINE`] passes.
    #[track_caller]
    pub fn wait_for_line(&self, text: &str) -> String {
        self.wait_for(text, &self.captured.stdout)
    }

    /// Waits for a line on standard error that contains `text`, and returns it.
    ///
    /// # Panics
    /// With everything the process said, if it ends before or [`DEADLINE`] passes.
    #[track_caller]
    pub fn wait_for_error_line(&self, text: &str) -> String {
        self.wait_for(text, &self.captured.stderr)
    }

    #[track_caller]
    fn wait_for(&self, text: &str, lines: &Mutex<Vec<String>>) -> String {
        let start = Instant::now();
        loop {
            // Taken before the lines are searched: what comes later rings the bell.
            let closed = self.captured.closed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = lines_of(lines).into_iter().find(|line| line.contains(text)) {
                return line;
            }
            let over = *closed == self.readers.len() || start.elapsed() > DEADLINE;
            assert!(
                !over,
                "no line with {text:?}\nstdout:\n{}\nstderr:\n{}",
                self.stdout().join("\n"),
                self.stderr().join("\n")
            );
            drop(self.captured.bell.wait_timeout(closed, Duration::from_millis(200)));
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        if !self.ended {
            process::send(self.pid(), signal);
        }
    }

    /// Waits for the end without collecting it, so that `/proc` still tells what it cost.
    ///
    /// # Errors
    /// The system's; there is no deadline.
    pub fn wait_for_end(&self) -> std::io::Result<()> {
        let pid =
            i32::try_from(self.pid()).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::NotFound)?;
        loop {
            match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the end and returns what was said.
    ///
    /// # Panics
    /// If it does not come within [`DEADLINE`].
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let status = self.wait_within(DEADLINE);
        let status = status.unwrap_or_else(|| panic!("no end of the process; stderr: {:?}", self.stderr()));
        // A process that left the group may hold the pipes open: what it says is not waited for.
        holds_within(Duration::from_secs(5), || self.readers.iter().all(JoinHandle::is_finished));
        Outcome { status, stdout: self.stdout().join("\n"), stderr: self.stderr().join("\n") }
    }

    /// Asks the process to end (SIGTERM) and returns how it did.
    #[track_caller]
    pub fn terminate(self) -> Outcome {
        self.signal(Signal::TERM);
        self.wait()
    }

    fn wait_within(&mut self, deadline: Duration) -> Option<ExitStatus> {
        if !holds_within(deadline, || !process::is_running(self.pid())) {
            return None;
        }
        // Before the leader is collected: its id, and so the group's, is still taken.
        self.kill_group();
        self.ended = true;
        self.child.wait().ok()
    }

    fn kill_group(&self) {
        if let Some(group) = i32::try_from(self.pid()).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.ended {
            self.kill_group();
            let _ = self.child.wait();
        }
    }
}

fn capture(
    stream: impl Read + Send + 'static,
    captured: &Arc<Captured>,
    into: fn(&Captured) -> &Mutex<Vec<String>>,
) -> JoinHandle<()> {
    let captured = Arc::clone(captured);
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            into(&captured).lock().unwrap_or_else(PoisonError::into_inner).push(text);
            // Taking the lock orders this bell after the search of who is about to wait.
            drop(captured.closed.lock().unwrap_or_else(PoisonError::into_inner));
            captured.bell.notify_all();
            line.clear();
        }
        *captured.closed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        captured.bell.notify_all();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Environment::new().command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn dropped_guard_ends_the_whole_group() {
        let guard = Background::spawn(shell("sleep 60 & echo child $!; wait"));
        let line = guard.wait_for_line("child ");
        let child: u32 = line.trim_start_matches("child ").parse().expect("a pid");
        let leader = guard.pid();
        assert!(process::is_running(child));
        drop(guard);
        eventually("both are gone", || !process::is_running(child) && !process::is_running(leader));
    }

    #[test]
    fn terminate_returns_status_and_output() {
        let script = "trap 'echo bye; exit 3' TERM; echo ready; echo oops >&2; while :; do sleep 0.01; done";
        let guard = Background::spawn(shell(script));
        guard.wait_for_line("ready");
        guard.wait_for_error_line("oops");
        let outcome = guard.terminate();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (3, "ready\nbye"));
    }

    #[test]
    #[should_panic(expected = "no line with \"live\"")]
    fn wait_for_line_fails_at_once_when_the_process_ends() {
        Background::spawn(shell("echo other")).wait_for_line("live");
    }

    #[test]
    fn environment_hides_the_users() {
        let environment = Environment::new();
        let mut command = environment.command("sh");
        command.args(["-c", "echo $HOME $LC_ALL ${SSH_AUTH_SOCK-none}"]);
        let outcome = Background::spawn(command).wait().succeeded();
        assert_eq!(outcome.stdout, format!("{} C none", environment.home().display()));
    }
}
