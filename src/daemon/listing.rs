//! `--list-only`: what would be sent, told instead of sent.

use std::sync::Arc;

use super::once::{Named, ready};
use crate::config::Sync;
use crate::monitor::{Monitor, Notice, Scope};
use crate::sender::{SessionError, Source, Told, list_source, merged};

/// Tells the monitor of each entry of a sync's source that takes part, and of what cannot be read.
///
/// # Errors
/// [`SessionError::Source`] if the source cannot be opened, [`SessionError::Option`] for its rule files.
pub fn list(
    sync: &Sync,
    monitor: &Arc<dyn Monitor>,
    goes_on: &dyn Fn() -> bool,
) -> Result<(Told, Named), SessionError> {
    let ((mut sync, source, _), named) = ready(sync)?;
    let Some(source) = source else { return Ok((Told::default(), named)) };
    sync.filters = merged(&sync, &source, true).map_err(SessionError::Option)?;
    Ok((list_opened(&sync, &source, monitor, goes_on)?, named))
}

/// The same of a source that is open.
pub(super) fn list_opened(
    sync: &Sync,
    source: &Arc<Source>,
    monitor: &Arc<dyn Monitor>,
    goes_on: &dyn Fn() -> bool,
) -> Result<Told, SessionError> {
    let scope = Scope::new(&sync.name, "");
    let told = list_source(sync, source, &mut |entry| {
        monitor.itemized(&scope, &entry);
        goes_on()
    })?;
    for (path, errno) in &told.problems {
        let (path, operation) = (path.clone(), "read".to_owned());
        monitor.notice(&scope, &Notice::Problem { path, operation, errno: *errno, on_target: false });
    }
    Ok(told)
}
