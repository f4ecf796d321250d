//! Whether the configuration lets this host lead a tree.

use std::path::Path;

use crate::config::{self, Sync};
use crate::role::{Barred, HostName};

/// Returns who may lead instead of this host, if the sync does not let it.
pub(super) fn barred(sync: &Sync) -> Option<Barred> {
    let hosts = sync.hosts.as_ref().filter(|hosts| !hosts.may_lead)?;
    let others = sync.targets.iter().filter(|target| target.may_lead);
    Some(Barred {
        entry: HostName::new(&hosts.here),
        others: others.map(|target| HostName::new(&target.name)).collect(),
    })
}

/// The same for the sync of a configuration that has this tree, with the name of the sync. Where there is no such
/// configuration, or it has no such sync, nothing keeps the host from leading.
///
/// # Errors
/// What is wrong with the configuration, in one line.
pub(super) fn barred_by(config: &Path, root: &Path) -> Result<Option<(String, Barred)>, String> {
    if !config.exists() {
        return Ok(None);
    }
    let loaded = config::load_whole(&[config]).map_err(|error| error.to_string())?;
    let found = loaded.config.syncs.iter().filter(|sync| is_same(&sync.source, root));
    Ok(found.filter_map(|sync| Some((sync.name.clone(), barred(sync)?))).next())
}

/// Whether two paths on this host are one tree, as far as that can be looked at.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
