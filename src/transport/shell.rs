//! The remote user's shell: what runs a line there.

use std::io::{Read, Write};

use super::{Ended, Link, TransportError};

/// Runs lines in the remote user's shell.
pub(super) trait Shell {
    /// Starts `line` there and returns the link to it.
    fn open(&self, line: &str) -> Result<Link, TransportError>;
}

/// Runs `line` with `input` as its standard input, to its end.
pub(super) fn run(shell: &impl Shell, line: &str, input: &[u8]) -> Result<Ended, TransportError> {
    let Link { reader, mut writer, control } = shell.open(line)?;
    // A refusal shows in the exit status, with its reason.
    let _ = writer.write_all(input).and_then(|()| writer.flush());
    drop(writer);
    let ended = control.ended();
    drop(reader);
    Ok(ended)
}

/// Runs `line` without input to its end; returns what it printed as well, at most `max` bytes of it.
pub(super) fn output(shell: &impl Shell, line: &str, max: u64) -> Result<(Ended, Vec<u8>), TransportError> {
    let Link { reader, writer, control } = shell.open(line)?;
    drop(writer);
    let (mut reader, mut printed) = (reader.take(max), Vec::new());
    // What is cut off shows in the exit status.
    let _ = reader.read_to_end(&mut printed);
    // Whoever prints more is not waited for.
    if reader.limit() == 0 {
        control.kill();
    }
    Ok((control.ended(), printed))
}
