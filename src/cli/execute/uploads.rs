//! What is said, or asked, before the agent is uploaded.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use super::note;
use crate::cli::told::uploading;
use crate::monitor::sized;
use crate::transport::{TransportError, Uploads};

/// Says it on standard error.
pub(super) fn told() -> Uploads {
    Uploads::new(|len| {
        note(&uploading(len));
        Ok(())
    })
}

/// Asks at the terminal; without one nothing is uploaded. For runs that are to change nothing.
pub(super) fn asked() -> Uploads {
    Uploads::new(|len| {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(TransportError::Unasked("a dry run uploads nothing without being told to"));
        }
        if agreed(len).unwrap_or(false) { Ok(()) } else { Err(TransportError::Unasked("the answer was no")) }
    })
}

/// Returns the answer; targets that are connected to side by side ask one after the other.
fn agreed(len: u64) -> io::Result<bool> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = io::stderr().lock();
    write!(
        out,
        "speil is not installed on the target. Upload this one, {}, into ~/.cache/speil there? [y/N] ",
        sized(len)
    )?;
    out.flush()?;
    drop(out);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
