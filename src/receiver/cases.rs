//! Names that differ in case only, on a target where they are one.
//!
//! **Purpose:** the name that came first keeps its place; the other is a Problem of its own, and is never
//! taken for the first. **Invariants:** what is done to a path is done to an entry that is spelt so, and
//! below directories that are. **Not here:** finding out that names are one, which is `profile`.

use std::os::fd::AsFd;

use super::install::Undone;
use crate::disk::{Root, names};
use crate::protocol::{ToReceiver, Why};
use crate::tree::RelPath;

/// The operation that a Problem names.
const OPERATION: &str = "create beside a name of other case";

/// What is to be done instead of an operation.
pub(super) enum Instead {
    /// Nothing: what it names is not there.
    Nothing,
    /// The operation fails.
    Fail(RelPath, Undone),
}

/// Returns what is to be done instead of `message`, because a name of it stands there in other case.
/// `closing` is the path of the stream that ends with it.
pub(super) fn instead(root: &Root, message: &ToReceiver<'_>, closing: Option<&RelPath>) -> Option<Instead> {
    let refused = |path: &RelPath| {
        twin(root, path).map(|_| Instead::Fail(path.clone(), Undone::Os(OPERATION, libc::EEXIST)))
    };
    match message {
        ToReceiver::Close { .. } => closing.and_then(refused),
        ToReceiver::Delete { path, .. } | ToReceiver::DirTime { path, .. } => {
            twin(root, path).map(|_| Instead::Nothing)
        }
        ToReceiver::Rename { from, to, .. } => {
            if twin(root, from).is_some() {
                return Some(Instead::Fail(to.clone(), Undone::Why(Why::Differs)));
            }
            // A name may change its own case.
            twin(root, to).filter(|other| other != from).and_then(|_| refused(to))
        }
        made => made.paths()[0].and_then(refused),
    }
}

/// Returns the entry that stands in the place of `path`, or of a directory above it, in other case.
fn twin(root: &Root, path: &RelPath) -> Option<RelPath> {
    let mut dir = RelPath::root();
    for name in path.components() {
        let found = names(root.dir(&dir).ok()?.as_fd()).ok()?;
        if !found.iter().any(|known| known == name) {
            let wanted = folded(name);
            return found.iter().find(|known| folded(known) == wanted).map(|known| dir.join(known));
        }
        dir = dir.join(name);
    }
    None
}

/// Returns a name as it is compared where case does not count.
fn folded(name: &[u8]) -> Vec<u8> {
    std::str::from_utf8(name)
        .map_or_else(|_| name.to_ascii_lowercase(), |name| name.to_lowercase().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_other_case_at_any_depth_and_not_where_it_is_spelt_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("Album/Straße")).unwrap();
        std::fs::write(dir.path().join("Album/Straße/Ä.JPG"), "").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = |text: &str| RelPath::try_from(text).unwrap();
        let twin = |text: &str| twin(&root, &path(text));
        assert_eq!(twin("Album/Straße/Ä.JPG"), None);
        assert_eq!(twin("Album/Straße/ä.jpg"), Some(path("Album/Straße/Ä.JPG")));
        assert_eq!(twin("album/Straße/Ä.JPG"), Some(path("Album")));
        assert_eq!(twin("Album/Straße/other/x"), None);
        assert_ne!(folded(b"\xff"), folded(b"\xfe"));
    }
}
