//! The source: whether it can be read, and what a target must be able to hold.

use std::collections::HashSet;

use super::{Finding, size};
use crate::config::Sync;
use crate::disk::Root;
use crate::error::{errno_text, io_text};
use crate::filter::Filter;
use crate::monitor::counted;
use crate::protocol::RootPlace;
use crate::scan::{self, Role};
use crate::tree::{Kind, Mask, RelPath, quote};

/// Entries that are looked at, at most; a larger tree is told as far as this.
const ENTRIES_MAX: u64 = 5_000_000;

/// What a source holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    /// Where it stands.
    pub place: Option<RootPlace>,
    /// Entries below the root.
    pub entries: u64,
    /// Directories, the root included.
    pub dirs: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the largest file.
    pub largest: u64,
    /// Longest name in bytes.
    pub longest_name: usize,
    /// Names that are no UTF-8.
    pub odd_names: u64,
    /// Names that differ from a neighbour in case only.
    pub twins: u64,
    /// The first one.
    pub twin: Option<RelPath>,
    /// What could not be read, and the first of it.
    pub unreadable: u64,
    pub first_unreadable: Option<(RelPath, i32)>,
    /// Whether there was more than was looked at.
    pub cut: bool,
}

/// Walks a source.
///
/// # Errors
/// What stands in the way of reading it at all, as a finding.
pub(super) fn look(sync: &Sync) -> Result<Tree, Box<Finding>> {
    use std::os::unix::ffi::OsStrExt;
    let shown = quote(sync.source.as_os_str().as_bytes());
    let fail = |text: String, cure: &str| Box::new(Finding::problem("source", text, cure));
    let root = Root::open(&sync.source).map_err(|error| {
        let cure = match error.raw_os_error() {
            Some(libc::ENOENT) => "make the directory, mount what should be there, or correct source",
            Some(libc::ENOTDIR) => "name its directory, and the file with include",
            _ => "run speil as a user who may read it, or with CAP_DAC_READ_SEARCH",
        };
        fail(format!("{shown}: {}", io_text(&error)), cure)
    })?;
    let filter = Filter::new(&sync.filters).map_err(|error| fail(error.to_string(), "correct the rule"))?;
    let options = scan::Options {
        mask: Mask { xattrs: false, privileged_xattrs: false, acls: false, ..sync.mask },
        filter: std::sync::Arc::new(filter),
        role: Role::Source,
        one_file_system: sync.selection.one_file_system,
        recursive: true,
        checksum: false,
        links: sync.selection.links,
        prune: sync.selection.prune,
    };
    let place = crate::disk::place(&sync.source).ok();
    let mut tree = Tree {
        place: place.map(|(boot_id, lineage)| RootPlace { boot_id, lineage }),
        dirs: 1,
        ..Tree::default()
    };
    let home = root.id().map(|id| id.dev).ok();
    let mut waiting = vec![RelPath::root()];
    while let Some(dir) = waiting.pop() {
        match scan::list(&root, &dir, &options, &scan::Plain) {
            Ok(found) => {
                tree.take(&dir, &found);
                for entry in &found.entries {
                    let stays = !sync.selection.one_file_system || home == Some(entry.id.dev);
                    if entry.attrs.meta.kind == Kind::Dir && stays {
                        waiting.push(dir.join(&entry.name));
                    }
                }
            }
            Err(error) => tree.fail(dir, crate::error::errno_of(&error)),
        }
        if tree.entries > ENTRIES_MAX {
            tree.cut = true;
            break;
        }
    }
    Ok(tree)
}

impl Tree {
    fn take(&mut self, dir: &RelPath, found: &scan::DirEntries) {
        let mut lower = HashSet::with_capacity(found.entries.len());
        for entry in &found.entries {
            self.entries += 1;
            self.longest_name = self.longest_name.max(entry.name.len());
            match std::str::from_utf8(&entry.name) {
                Ok(name) => {
                    if !lower.insert(name.to_lowercase()) {
                        self.twins += 1;
                        self.twin.get_or_insert_with(|| dir.join(&entry.name));
                    }
                }
                Err(_) => self.odd_names += 1,
            }
            match entry.attrs.meta.kind {
                Kind::Dir => self.dirs += 1,
                Kind::File => {
                    self.bytes = self.bytes.saturating_add(entry.attrs.meta.size);
                    self.largest = self.largest.max(entry.attrs.meta.size);
                }
                _ => {}
            }
        }
        for (name, errno) in &found.problems {
            self.fail(dir.join(name), *errno);
        }
    }

    fn fail(&mut self, path: RelPath, errno: i32) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert((path, errno));
    }
}

/// Returns what there is to say of a source that can be read.
pub(super) fn judge(sync: &Sync, tree: &Tree) -> Vec<Finding> {
    let more = if tree.cut { " or more" } else { "" };
    let told = format!(
        "{}{more} in {}, {}, the largest file {}",
        counted(tree.entries, "entry", "entries"),
        counted(tree.dirs, "directory", "directories"),
        size(tree.bytes),
        size(tree.largest)
    );
    let mut findings = vec![
        Finding::fine("source", told)
            .figure("entries", tree.entries)
            .figure("directories", tree.dirs)
            .figure("bytes", tree.bytes),
    ];
    if let Some((path, errno)) = &tree.first_unreadable {
        findings.push(Finding::problem(
            "reading",
            format!(
                "{} cannot be read, the first is {path}: {}",
                counted(tree.unreadable, "entry", "entries"),
                errno_text(*errno)
            ),
            "run speil as a user who may read them, with CAP_DAC_READ_SEARCH, or exclude them",
        ));
    }
    for risk in crate::config::risks(sync, &|path| path.exists()) {
        findings.push(Finding::warning("risk", risk, "speil check explains the configuration"));
    }
    findings
}
