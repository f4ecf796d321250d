//! The `speil` command.

use std::process::ExitCode;

use std::io::{IsTerminal, Write};

/// Returns the arguments for lsyncd's command line, if that is what was called.
fn lsyncd_arguments() -> Option<Vec<std::ffi::OsString>> {
    let mut words = std::env::args_os();
    let called = words.next()?;
    let by_name = std::path::Path::new(&called).file_name()?.as_encoded_bytes().ends_with(b"lsyncd");
    let wanted = by_name || words.next()? == "lsyncd";
    wanted.then(|| std::env::args_os().skip(if by_name { 1 } else { 2 }).collect())
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
    if let Some(arguments) = lsyncd_arguments() {
        return speil::cli::lsyncd(arguments);
    }
    let command = match speil::cli::parse(std::env::args_os()) {
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
