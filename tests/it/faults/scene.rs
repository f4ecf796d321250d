//! A small tree in which every kind of work is to be done, in an old and a new version, and what must
//! hold of a target between them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::support::stand::differences;

/// Whether every step is tried, not a few.
pub fn exhaustive() -> bool {
    std::env::var_os("SPEIL_FAULTS").is_some()
}

/// Whether this step is tried: all of them, or a few.
pub fn is_tried(step: usize) -> bool {
    exhaustive() || matches!(step, 1 | 6 | 19)
}

/// The last step that is tried, if the work is not done before.
pub fn last_step() -> usize {
    if exhaustive() { 10_000 } else { 19 }
}

/// The content of a file in one of its versions: each line names it, so that a mixture shows.
pub fn content(name: &str, version: u32, lines: usize) -> Vec<u8> {
    format!("{name} {version:08}\n").repeat(lines).into_bytes()
}

/// Files that stand in every version, with their number of lines: a name of theirs is never absent.
pub const LASTING: [(&str, usize); 5] =
    [("small", 1), ("d/kept", 40), ("d/e/deep", 300), ("large", 30_000), ("d/link", 5)];

/// Returns the bytes of a lasting file in a version. Most of the large one stays: it goes as a delta.
pub fn lasting(name: &str, lines: usize, version: u32) -> Vec<u8> {
    if name != "large" {
        return content(name, version, lines);
    }
    let mut text = content(name, 0, lines);
    let edit = content("edit", version, 2);
    let middle = text.len() / 2;
    text[middle..middle + edit.len()].copy_from_slice(&edit);
    text
}

/// Puts something in place of whatever stands at a path: the name is absent for a moment at most, where
/// a directory comes or goes.
fn put(path: &Path, make: impl FnOnce(&Path)) {
    let new = path.with_file_name(".new");
    make(&new);
    let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if is_dir(path) {
        fs::remove_dir(path).unwrap();
    } else if is_dir(&new) && path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    fs::rename(&new, path).unwrap();
}

/// Makes the tree so, whatever of it stands. Everything that lasts is replaced in one step.
pub fn write(root: &Path, version: u32) {
    for dir in ["d/e", "gone", "moves"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (name, lines) in LASTING {
        put(&root.join(name), |new| fs::write(new, lasting(name, lines, version)).unwrap());
    }
    fs::set_permissions(root.join("d/kept"), fs::Permissions::from_mode(0o600 + version % 8)).unwrap();
    put(&root.join("symlink"), |new| symlink(format!("to {version}"), new).unwrap());
    put(&root.join("shape"), |new| match version % 3 {
        0 => fs::create_dir(new).unwrap(),
        1 => fs::write(new, "a file").unwrap(),
        _ => symlink("a symlink", new).unwrap(),
    });
    // What comes and goes.
    let other = root.join("d/other link");
    let _ = fs::remove_file(&other);
    fs::hard_link(root.join("d/link"), &other).unwrap();
    let _ = fs::remove_file(root.join(format!("gone/{}", version.wrapping_sub(1))));
    fs::write(root.join(format!("gone/{version}")), content("gone", version, 3)).unwrap();
    let old = root.join(format!("moves/{}", version.wrapping_sub(1)));
    let now = root.join(format!("moves/{version}"));
    if old.exists() {
        fs::rename(old, now).unwrap();
    } else {
        fs::create_dir(&now).unwrap();
        fs::write(now.join("inside"), content("inside", 0, 100)).unwrap();
    }
}

/// What a watcher of the target looks at as long as it lives: every lasting name is there at every
/// moment, and every file is a version that was written whole.
pub struct Watch {
    done: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Watch {
    /// Watches from here on a tree in which everything stands; versions up to the one that `newest`
    /// says may show.
    pub fn of(root: &Path, newest: &Arc<AtomicU32>) -> Self {
        let (done, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (root, newest) = (root.to_owned(), Arc::clone(newest));
        let (end, count) = (Arc::clone(&done), Arc::clone(&looks));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Acquire) {
                look(&root, &newest)?;
                count.fetch_add(1, Ordering::AcqRel);
            }
            Ok(())
        });
        Self { done, looks, thread: Some(thread) }
    }

    /// Returns how often everything was looked at.
    ///
    /// # Panics
    /// With what was absent or torn.
    pub fn end(mut self) -> u64 {
        self.done.store(true, Ordering::Release);
        if let Err(seen) = self.thread.take().unwrap().join().unwrap() {
            panic!("{seen}");
        }
        self.looks.load(Ordering::Acquire)
    }
}

fn look(root: &Path, newest: &AtomicU32) -> Result<(), String> {
    // Where a directory comes or goes the source itself is without the name for a moment.
    let shape = (newest.load(Ordering::Acquire) % 3 == 2).then_some("shape");
    for name in ["symlink"].into_iter().chain(shape) {
        root.join(name).symlink_metadata().map_err(|error| format!("{name}: {error}"))?;
    }
    for (name, lines) in LASTING {
        let now = fs::read(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let known = (0..=newest.load(Ordering::Acquire)).rev().take(4);
        if !known.into_iter().any(|version| now == lasting(name, lines, version)) {
            return Err(format!("{name} is torn: {} bytes", now.len()));
        }
    }
    Ok(())
}

/// The bytes of every lasting file.
pub type Contents = BTreeMap<&'static str, Vec<u8>>;

/// Reads every lasting file.
pub fn contents(root: &Path) -> Contents {
    LASTING.iter().map(|(name, _)| (*name, fs::read(root.join(name)).unwrap())).collect()
}

/// Panics if a lasting name is absent, or is neither of the versions.
pub fn assert_whole(root: &Path, versions: &[&Contents], context: &str) {
    for (name, _) in LASTING {
        let now = fs::read(root.join(name)).unwrap_or_else(|error| panic!("{context}: {name}: {error}"));
        let known = versions.iter().any(|version| version[name] == now);
        assert!(known, "{context}: {name} is torn: {} bytes", now.len());
    }
}

/// The paths in which a target differs.
pub fn differing(source: &Path, target: &Path) -> Vec<String> {
    let mut paths: Vec<String> = differences(source, target)
        .iter()
        .map(|difference| String::from_utf8_lossy(&difference.path).into_owned())
        .collect();
    paths.dedup();
    paths
}
