//! A small tree in which every kind of work is to be done, in an old and a new version, and what must
//! hold of a target between them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

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
    [("small", 1), ("d/kept", 40), ("d/e/deep", 300), ("large", 60_000), ("d/link", 5)];

/// Makes the tree so, whatever of it stands. Files are replaced by renames in the odd versions and
/// written in place in the even ones.
pub fn write(root: &Path, version: u32) {
    for dir in ["d/e", "gone", "moves"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (name, lines) in LASTING {
        let path = root.join(name);
        let mut text = content(name, version, lines);
        if name == "large" {
            // Mostly as before: a delta.
            text = content(name, 0, lines);
            let len = text.len();
            text[len / 2..len / 2 + 40].copy_from_slice(&content("edit", version, 10)[..40]);
        }
        let new = path.with_extension("new");
        if version % 2 == 1 || !path.exists() {
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        } else {
            fs::write(&path, text).unwrap();
        }
    }
    fs::set_permissions(root.join("d/kept"), fs::Permissions::from_mode(0o600 + version % 8)).unwrap();
    let other = root.join("d/other link");
    let _ = fs::remove_file(&other);
    fs::hard_link(root.join("d/link"), &other).unwrap();
    let link = root.join("symlink");
    let _ = fs::remove_file(&link);
    symlink(format!("to {version}"), &link).unwrap();
    // What comes and goes.
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
