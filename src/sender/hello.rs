//! What the sender says first.

use std::time::Duration;

use super::error::SessionError;
use super::origin::origin;
use super::session::SessionOptions;
use super::source::Source;
use crate::disk::host_name;
use crate::protocol::{Errand, Hello, RootPlace, StateMode, Terms, TrashLimits, VERSION, VERSION_MIN};

/// Returns what the sender says first.
pub fn hello(options: &SessionOptions, source: RootPlace) -> Hello {
    let sync = &options.sync;
    Hello {
        version: VERSION,
        version_min: VERSION_MIN,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        mirror: options.mirror.id,
        label: format!("{} on {}", sync.name, host_name()),
        root: options.target.path.clone(),
        source,
        mask: sync.mask,
        filters: sync.filters.iter().map(|rule| serde_bytes::ByteBuf::from(rule.as_slice())).collect(),
        delete_excluded: sync.guard.delete_excluded,
        one_file_system: sync.selection.one_file_system,
        durability: sync.durability,
        state: if options.live { StateMode::Keep } else { StateMode::Traceless },
        dry_run: options.dry_run,
        force_root: sync.force_root,
        idle_limit_ms: u64::try_from(sync.timeout.max(Duration::from_secs(3)).as_millis()).unwrap_or(60_000),
        terms: Terms {
            errand: if options.rehearsal { Errand::Rehearsal } else { Errand::Mirror },
            trash: sync
                .trash
                .map(|trash| TrashLimits { keep_secs: trash.keep.as_secs(), max_bytes: trash.max }),
            partial: sync.partial,
        },
        origin: origin(options),
        before: None,
        makes: options.target.makes,
        noted: false,
        role: None,
        beside: sync.beside.iter().flat_map(|beside| &beside.dirs).cloned().collect(),
        backup: sync.backup.clone(),
        outside: sync.adopted,
    }
}

/// Returns where the source stands, so that the receiver can refuse equal and nested trees. Several sources stand in
/// several places, and a file's target may be beside it: of them the sender looks at what the receiver answers.
///
/// # Errors
/// As [`place_of`].
pub(super) fn stated_place(options: &SessionOptions, source: &Source) -> Result<RootPlace, SessionError> {
    if options.sync.sources.is_some() || options.sync.selection.is_one_path() {
        return Ok(RootPlace { boot_id: String::new(), lineage: Vec::new() });
    }
    place_of(source)
}

/// Returns where a source stands on this host.
///
/// # Errors
/// [`SessionError::Source`] if it cannot be looked at. Consequence: again.
pub(super) fn place_of(source: &Source) -> Result<RootPlace, SessionError> {
    let (boot_id, lineage) = crate::disk::place(source.path())
        .map_err(|error| SessionError::Source(crate::error::io_text(&error)))?;
    Ok(RootPlace { boot_id, lineage })
}
