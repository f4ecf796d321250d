//! What only the running host can tell: whether the sources and keys of a configuration exist.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::{Config, Sync};
use crate::error::{Consequence, Consequential, io_text};
use crate::tree::quote;

/// A configuration that cannot run on this host as it is now. Consequence: die; the others may run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The source cannot be looked at.
    #[error("{sync}: source {path}: {cause}")]
    Source {
        /// The sync.
        sync: String,
        /// The source, quoted.
        path: String,
        /// What the system says.
        cause: String,
    },
    /// The source is no directory.
    #[error("{sync}: source {path} is not a directory")]
    NotDirectory {
        /// The sync.
        sync: String,
        /// The source, quoted.
        path: String,
    },
    /// The private key cannot be read.
    #[error("{sync}: key \"ssh.identityFile\" {path}: {cause}")]
    IdentityFile {
        /// The sync.
        sync: String,
        /// The file, quoted.
        path: String,
        /// What the system says.
        cause: String,
    },
}

impl Consequential for Invalid {
    fn consequence(&self) -> Consequence {
        Consequence::Die
    }
}

impl Config {
    /// Returns everything in the configuration that does not fit this host, in the order of the syncs.
    pub fn validate(&self) -> Vec<Invalid> {
        self.syncs.iter().flat_map(check).collect()
    }
}

fn check(sync: &Sync) -> Vec<Invalid> {
    let mut found = Vec::new();
    let name = || sync.name.clone();
    let shown = |path: &Path| quote(path.as_os_str().as_bytes());
    let path = shown(&sync.source);
    // The root may be a symlink; everything below it is never followed.
    match std::fs::metadata(&sync.source) {
        Err(error) => found.push(Invalid::Source { sync: name(), path, cause: io_text(&error) }),
        Ok(meta) if !meta.is_dir() => found.push(Invalid::NotDirectory { sync: name(), path }),
        Ok(_) => {}
    }
    if let Some(key) = &sync.ssh.identity_file
        && let Err(error) = readable(key)
    {
        found.push(Invalid::IdentityFile { sync: name(), path: shown(key), cause: io_text(&error) });
    }
    found
}

fn readable(path: &Path) -> io::Result<()> {
    std::fs::File::open(path).map(drop)
}
