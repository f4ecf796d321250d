//! What the unit of a running daemon keeps from it: a tree with a role is written to.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::Sync;
use crate::tree::quote;

/// Looks whether a daemon that runs may write into the trees that have a role. The unit in the packages lets it read
/// its sources alone, and then it sends nothing from such a tree.
pub(super) fn check(proc: &Path, sync: &Sync) -> Vec<Finding> {
    let Ok(source) = sync.source.canonicalize() else { return Vec::new() };
    if !source.join(".speil/role").exists() {
        return Vec::new();
    }
    let kept_out = daemons(proc).find(|daemon| is_read_only(daemon, &source) == Some(true));
    kept_out.map(|daemon| told(&daemon, &source)).into_iter().collect()
}

fn told(daemon: &Path, source: &Path) -> Finding {
    let shown = quote(source.as_os_str().as_bytes());
    let pid = daemon.file_name().unwrap_or_default().to_string_lossy();
    Finding::problem(
        "role",
        format!(
            "{shown} has a role, and the daemon that runs as process {pid} may not write into it: nothing is sent"
        ),
        "install contrib/failover.conf as a drop-in of its unit, with the directory in ReadWritePaths=, and restart \
         it: see speil help failover",
    )
}

/// Returns the directories in `/proc` of the daemons that run.
fn daemons(proc: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(proc).into_iter().flatten().flatten().map(|process| process.path()).filter(|process| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let is_speil =
            words.next().is_some_and(|program| program.rsplit(|b| *b == b'/').next() == Some(b"speil"));
        is_speil && words.next() == Some(b"run")
    })
}

/// Whether a directory is on a mount that a process may not write to; `None` if that cannot be read. The last of the
/// mounts that cover it counts: proc_pid_mountinfo(5).
fn is_read_only(process: &Path, dir: &Path) -> Option<bool> {
    let text = std::fs::read(process.join("mountinfo")).ok()?;
    let mut found: Option<(usize, bool)> = None;
    for line in text.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ').skip(4);
        let (Some(point), Some(options)) = (words.next(), words.next()) else { continue };
        let point = PathBuf::from(std::ffi::OsString::from_vec(unescaped(point)));
        let depth = point.components().count();
        if dir.starts_with(&point) && found.is_none_or(|(deepest, _)| depth >= deepest) {
            found = Some((depth, options.split(|byte| *byte == b',').any(|option| option == b"ro")));
        }
    }
    found.map(|(_, read_only)| read_only)
}

/// Returns a path as it is, of which the kernel writes space, tab, newline and backslash as `\ooo`.
fn unescaped(written: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                path.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                path.push(first);
                rest = tail;
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_may_not_write_to_a_tree_with_a_role_is_told_and_the_innermost_mount_counts() {
        let (proc, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source = tree.path().canonicalize().unwrap().join("up loads");
        std::fs::create_dir_all(source.join(".speil")).unwrap();
        let process = proc.path().join("42");
        std::fs::create_dir(&process).unwrap();
        std::fs::write(process.join("cmdline"), b"/usr/bin/speil\0run\0/etc/speil/speil.lua\0").unwrap();
        let mounts = |rest: &str| {
            let text = format!("1 0 8:1 / / ro,relatime - ext4 /dev/sda ro\n{rest}");
            std::fs::write(process.join("mountinfo"), text).unwrap();
        };
        let sync = Sync::new("up", &source, Vec::new());
        mounts("");
        assert!(check(proc.path(), &sync).is_empty(), "it has no role");
        std::fs::write(source.join(".speil/role"), "").unwrap();
        let found = check(proc.path(), &sync);
        assert_eq!(found.len(), 1);
        assert!(found[0].found.contains("process 42 may not write into it"), "{found:?}");
        let point = source.to_str().unwrap().replace(' ', "\\040");
        mounts(&format!(
            "2 1 8:1 {point} {point} rw,relatime - ext4 /dev/sda rw\n3 1 8:1 / /other ro - x y ro\n"
        ));
        assert!(check(proc.path(), &sync).is_empty());
        mounts("");
        std::fs::write(process.join("cmdline"), b"/usr/bin/speil\0health\0").unwrap();
        assert!(check(proc.path(), &sync).is_empty(), "it is no daemon");
    }
}
