//! Which backend a source gets.
//!
//! `auto` takes inotify, unless the filesystem tells nothing (poll), or the tree has many directories and
//! the process may mark a filesystem (fanotify): a mark costs nothing per directory, and in return wakes
//! the watcher for whatever else happens on that filesystem, so a small tree does better without.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use crate::config::Backend;
use crate::error::errno_text;
use crate::tree::RelPath;

use super::{Problem, Skip, WatchError, dirfd, fanotify, kernel, tuning};

/// From so many directories on, a tree is large: 20,000 watches are 20 MB of kernel memory.
const LARGE: u64 = 20_000;
/// A tree is large as well if it would use up this part of the watches that a user may have.
const SHARE: u64 = 4;
/// Directories deeper than this do not count.
const LEVELS_MAX: usize = 64;

/// Returns the backend that `Auto` stands for on this source, large or not.
///
/// # Errors
/// [`WatchError::Source`] if the source cannot be opened.
pub(crate) fn resolve(backend: Backend, source: &Path) -> Result<Backend, WatchError> {
    if backend != Backend::Auto {
        return Ok(backend);
    }
    let root =
        dirfd::open_path(source).map_err(|errno| WatchError::Source { path: source.to_owned(), errno })?;
    Ok(if dirfd::has_events(&root) && tuning::usable() { Backend::Inotify } else { Backend::Poll })
}

/// Returns the backend to start, and what is to be said if it is not the one that was asked for.
///
/// # Errors
/// [`WatchError::Source`] if the source cannot be opened.
pub(super) fn choose(
    backend: Backend,
    source: &Path,
    skip: &Skip,
) -> Result<(Backend, Option<Problem>), WatchError> {
    let resolved = resolve(backend, source)?;
    match (backend, resolved) {
        (Backend::Auto, Backend::Inotify) => {
            let marked = fanotify::check(source).is_ok() && is_large(source, skip, threshold());
            Ok((if marked { Backend::Fanotify } else { Backend::Inotify }, None))
        }
        (Backend::Fanotify, _) => match fanotify::check(source) {
            Ok(()) => Ok((Backend::Fanotify, None)),
            Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                Err(WatchError::Source { path: source.to_owned(), errno })
            }
            Err(errno) => Ok((Backend::Inotify, Some(refusal(errno)))),
        },
        (Backend::Auto, Backend::Poll) => Ok((resolved, tuning::is_exhausted().then(no_instance))),
        _ => Ok((resolved, None)),
    }
}

/// Says that the source is walked though it could be heard.
fn no_instance() -> Problem {
    Problem {
        path: RelPath::root(),
        text: "no inotify instance is left for this user: changes are found by walking the source".to_owned(),
        hint: Some("raise fs.inotify.max_user_instances and restart".to_owned()),
    }
}

/// Says why there is no mark.
fn refusal(errno: Errno) -> Problem {
    let hint = match errno {
        Errno::PERM | Errno::ACCESS => "it needs CAP_SYS_ADMIN",
        Errno::INVAL | Errno::NOSYS => "it needs Linux 5.17",
        Errno::OPNOTSUPP | Errno::XDEV | Errno::NODEV | Errno::OVERFLOW => {
            "it needs a filesystem whose file handles it can tell: ext4, XFS or tmpfs, but not overlay"
        }
        Errno::MFILE => "raise fs.fanotify.max_user_groups",
        _ => "watch = \"inotify\" says the same without trying",
    };
    Problem {
        path: RelPath::root(),
        text: format!("fanotify: {}; inotify is used instead", errno_text(errno.raw_os_error())),
        hint: Some(hint.to_owned()),
    }
}

fn threshold() -> u64 {
    kernel::watch_limit().map_or(LARGE, |limit| LARGE.min(limit / SHARE))
}

/// Whether a source has at least so many directories that the rules do not leave out; counts no further.
///
/// Level by level, since a large tree is one after few of its directories were read: mostly those at its
/// lower end hold no others.
fn is_large(source: &Path, skip: &Skip, least: u64) -> bool {
    let Ok(root) = dirfd::open_path(source) else { return false };
    let mut left = least;
    let mut waiting = VecDeque::from([RelPath::root()]);
    while let Some(path) = waiting.pop_front() {
        let Ok(dir) = dirfd::open_below(root.as_fd(), &path) else { continue };
        let deeper = path.depth() < LEVELS_MAX;
        let _ = dirfd::list(&dir, |name, is_dir| {
            let below = if is_dir { path.join(name) } else { return };
            if skip(&below, true) {
                return;
            }
            left = left.saturating_sub(1);
            if deeper && left > 0 {
                waiting.push_back(below);
            }
        });
        if left == 0 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_tree_is_large_by_the_directories_that_the_rules_do_not_leave_out() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            std::fs::create_dir_all(dir.path().join(format!("a/{n}/x"))).unwrap();
        }
        let all: Skip = Arc::new(|_, _| false);
        assert!(is_large(dir.path(), &all, 21));
        assert!(!is_large(dir.path(), &all, 22));
        let few: Skip = Arc::new(|path, _| path.name() == b"x");
        assert!(is_large(dir.path(), &few, 11) && !is_large(dir.path(), &few, 12));
    }

    #[test]
    fn what_refuses_a_mark_is_said_with_what_would_help() {
        let said = refusal(Errno::PERM);
        assert_eq!(said.text, "fanotify: operation not permitted (EPERM); inotify is used instead");
        assert_eq!(said.hint.as_deref(), Some("it needs CAP_SYS_ADMIN"));
    }
}
