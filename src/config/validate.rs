//! What only the running host can tell: whether the sources and keys of a configuration exist.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::{Group, User};

use crate::config::{Config, Sync};
use crate::error::{Consequence, Consequential, io_text};
use crate::tree::{Chown, Owner, quote};

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
    /// A target on this host lacks an owner.
    #[error("{sync}: target {target}: this host has no {owner} (key \"chown\")")]
    Owner {
        /// The sync.
        sync: String,
        /// The target's name.
        target: String,
        /// The user or group, in words.
        owner: String,
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
    // A host that never leads sends nothing, and holds no key to the others.
    let sends = sync.hosts.as_ref().is_none_or(|hosts| hosts.may_lead);
    if let Some(key) = sync.ssh.identity_file.as_ref().filter(|_| sends)
        && let Err(error) = readable(key)
    {
        found.push(Invalid::IdentityFile { sync: name(), path: shown(key), cause: io_text(&error) });
    }
    for target in sync.targets.iter().filter(|target| target.host.is_none()) {
        let lacks = |owner| Invalid::Owner { sync: name(), target: target.name.clone(), owner };
        found.extend(unknown_owners(sync).into_iter().map(lacks));
    }
    found
}

/// Returns in words the fixed owners that this host lacks.
fn unknown_owners(sync: &Sync) -> Vec<String> {
    let chown = sync.selection.chown.as_deref().and_then(|text| Chown::parse(text).ok()).unwrap_or_default();
    let lacks = |what: &str, owner: Option<Owner>, known: &dyn Fn(&str) -> bool| {
        let name = owner?.name()?.to_owned();
        (!known(&name)).then(|| format!("{what} {}", quote(name.as_bytes())))
    };
    let user = lacks("user", chown.user, &|name| matches!(User::from_name(name), Ok(Some(_))));
    let group = lacks("group", chown.group, &|name| matches!(Group::from_name(name), Ok(Some(_))));
    user.into_iter().chain(group).collect()
}

fn readable(path: &Path) -> io::Result<()> {
    std::fs::File::open(path).map(drop)
}
