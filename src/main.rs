//! The `speil` command.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use speil::cli::AGENT_WORD;

/// Whether this executable was called as `name`.
fn is_called(called: &OsString, name: &str) -> bool {
    let file = std::path::Path::new(called).file_name();
    file.is_some_and(|file| file.as_encoded_bytes().ends_with(name.as_bytes()))
}

/// Returns the arguments for the command line of another program, if that is what was called.
fn arguments_of(name: &str, words: &[OsString]) -> Option<Vec<OsString>> {
    let skipped = if is_called(words.first()?, name) { 1 } else { 2 };
    let wanted = skipped == 1 || words.get(1)? == name;
    wanted.then(|| words.iter().skip(skipped).cloned().collect())
}

/// Returns the words of the command line; an executable with the name of another program is its own agent under
/// another word.
fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let is_agent = words.first().is_some_and(|word| is_called(word, "lsyncd") || is_called(word, "rsync"))
        && words.get(1).is_some_and(|word| word == AGENT_WORD);
    if is_agent {
        words.splice(..2, ["speil", "agent"].map(OsString::from));
    }
    words
}

/// Keeps freed memory from lying about in one heap for each thread: passes begin and end on threads of
/// their own, and a daemon is to stay small for years.
#[cfg(target_env = "gnu")]
fn share_the_heap() {
    // SAFETY: sets numbers of the allocator, before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        // What grew large goes back to the system when it is freed, and does not part the heap.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
    }
}

#[cfg(not(target_env = "gnu"))]
fn share_the_heap() {}

fn main() -> ExitCode {
    share_the_heap();
    let words = words();
    if let Some(arguments) = arguments_of("lsyncd", &words) {
        return speil::cli::lsyncd(arguments);
    }
    if let Some(arguments) = arguments_of("rsync", &words) {
        return speil::cli::rsync(arguments);
    }
    let command = match speil::cli::parse(words) {
        Ok(command) => command,
        Err(error) => {
            let style = speil::cli::Style::detect(std::io::stderr().is_terminal());
            let text = speil::cli::render_error(&error, error.hint().as_deref(), style);
            let _ = std::io::stderr().write_all(text.as_bytes());
            return error.exit().into();
        }
    };
    speil::cli::execute(command).into()
}
