//! Where a root is, and whether anything is in it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::disk::{Root, names_of};
use crate::protocol::RootPlace;
use crate::scan::STATE_DIR;
use crate::tree::{RelPath, quote};

/// Returns a path for people.
pub(super) fn shown(path: &Path) -> String {
    quote(path.as_os_str().as_bytes()).trim_matches('"').to_owned()
}

/// Whether a root holds nothing but state.
pub(super) fn holds_nothing(root: &Root) -> io::Result<bool> {
    Ok(names_of(root.dir(&RelPath::root())?.as_fd())?.iter().all(|name| name == STATE_DIR))
}

/// Returns where a directory stands on this host.
pub(super) fn place(path: &Path) -> io::Result<RootPlace> {
    crate::disk::place(path).map(|(boot_id, lineage)| RootPlace { boot_id, lineage })
}
