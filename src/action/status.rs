//! The status file, in lsyncd's format.
//!
//! **Invariants:** replaced as a whole, so that a reader never sees half of it.
//! **Sources:** lsyncd 2.2.3 as observed.

use std::io;
use std::path::Path;

use super::core::{Core, Running};
use super::log::stamp;
use super::native::State;

/// Returns what the file says; `watched` are the directories that are watched, with a slash at each end.
pub fn render(core: &Core, watched: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("Lsyncd status report at {}\n\n", stamp("%a %b %e %H:%M:%S %Y")).into_bytes();
    for sync in &core.syncs {
        render_sync(sync, &mut out);
    }
    out.extend_from_slice(core.tunnels.report().as_bytes());
    out.extend_from_slice(format!("Inotify watching {} directories\n", watched.len()).as_bytes());
    for (at, directory) in watched.iter().enumerate() {
        out.extend_from_slice(format!("  {}: ", at + 1).as_bytes());
        out.extend_from_slice(directory);
        out.push(b'\n');
    }
    out
}

fn render_sync(sync: &Running, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{} source=", sync.spec.name).as_bytes());
    out.extend_from_slice(&sync.spec.source);
    let waiting = match &sync.state {
        State::Mirror(mirror, _) => mirror.queued(),
        _ => sync.delays.len(),
    };
    out.extend_from_slice(format!("\nThere are {waiting} delays\n").as_bytes());
    for (_, entry) in sync.delays.iter() {
        out.extend_from_slice(format!("{:<7}{} ", entry.status.word(), entry.etype.word()).as_bytes());
        out.extend_from_slice(&entry.path);
        if let Some(to) = &entry.path2 {
            out.extend_from_slice(b" -> ");
            out.extend_from_slice(to);
        }
        out.push(b'\n');
    }
    out.extend_from_slice(b"Filtering:\n");
    if sync.rules.0.is_empty() {
        out.extend_from_slice(b"  nothing.\n");
    }
    for rule in &sync.rules.0 {
        out.extend_from_slice(rule);
        out.push(b'\n');
    }
    out.extend_from_slice(b"\n\n");
}

/// Replaces the file.
///
/// # Errors
/// What the system says; the old file stands.
pub fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let kind = std::fs::metadata(file).map(|meta| meta.is_file());
    if matches!(kind, Ok(false)) {
        // A device or a pipe is written to, not replaced.
        return crate::disk::write_whole(file, text);
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    crate::disk::write_whole(name.as_ref(), text)?;
    std::fs::rename(&name, file)
}
