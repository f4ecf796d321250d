//! A target that the command line names, and how it is reached.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{complain, complain_text};
use crate::cli::commands::Reach;
use crate::cli::exit::Exit;
use crate::config::{Sync, name_targets, parse_target, split_words};
use crate::protocol::Refusal;
use crate::sender::SessionError;

/// Returns a sync of one target, whose source is `source`; empty for none.
///
/// # Errors
/// The exit code, after it was said what is wrong.
pub(super) fn one_target(target: &Path, source: &Path, reach: &Reach) -> Result<Sync, u8> {
    let target = parse_target(target.as_os_str().as_bytes()).map_err(|error| {
        complain(&error, error.hint());
        Exit::Syntax.code()
    })?;
    let mut targets = vec![target];
    name_targets(&mut targets);
    let mut sync = Sync::new("", source, targets);
    apply(reach, &mut sync)?;
    Ok(sync)
}

/// Returns what to do about a directory that is not there and was not to be made.
pub(super) fn missing(error: &SessionError) -> Option<String> {
    let SessionError::Refused(Refusal::Root { path, errno: libc::ENOENT }) = error else { return None };
    Some(format!(
        "nothing was ever mirrored to this path: look for the right one on the target, ls -d {path:?}"
    ))
}

/// Has a sync reach its targets so.
///
/// # Errors
/// The exit code, after it was said what is wrong.
pub(super) fn apply(reach: &Reach, sync: &mut Sync) -> Result<(), u8> {
    let words = |text: &String| {
        split_words(text).map_err(|error| {
            complain_text(&format!("{text}: {error}"), None);
            Exit::Syntax.code()
        })
    };
    sync.ssh.command = reach.rsh.as_ref().map(words).transpose()?;
    if let Some(agent) = &reach.agent {
        sync.agent = crate::cli::values::parse_agent(agent).map_err(|error| {
            complain_text(&format!("--agent {agent}: {error}"), None);
            Exit::Syntax.code()
        })?;
    }
    Ok(())
}
