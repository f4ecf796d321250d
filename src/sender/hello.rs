//! What the sender says first.

use std::time::Duration;

use super::error::SessionError;
use super::session::SessionOptions;
use super::source::Source;
use crate::protocol::{Hello, Place, StateMode, VERSION, VERSION_MIN};

/// Returns what the sender says first.
pub(super) fn hello(options: &SessionOptions, source: &Source) -> Result<Hello, SessionError> {
    let sync = &options.sync;
    let (boot_id, lineage) = crate::disk::place(source.path())
        .map_err(|error| SessionError::Source(crate::error::io_text(&error)))?;
    Ok(Hello {
        version: VERSION,
        version_min: VERSION_MIN,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        mirror: options.mirror,
        label: format!("{} on {}", sync.name, host_name()),
        root: options.target.path.clone(),
        source: Place { boot_id, lineage },
        mask: sync.mask,
        filters: sync.filters.iter().map(|rule| serde_bytes::ByteBuf::from(rule.as_slice())).collect(),
        delete_excluded: sync.guard.delete_excluded,
        one_file_system: sync.selection.one_file_system,
        durability: sync.durability,
        state: if options.live { StateMode::Keep } else { StateMode::Traceless },
        dry_run: options.dry_run,
        force_root: sync.force_root,
        idle_limit_ms: u64::try_from(sync.timeout.max(Duration::from_secs(3)).as_millis()).unwrap_or(60_000),
    })
}

/// Returns this host's name.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
