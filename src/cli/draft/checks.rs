//! What a source and its targets are, and what cannot be meant of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cli::carried::carried_name;
use crate::cli::error::CliError;
use crate::config::{Leads, Sources, Target, spelling};
use crate::tree::{LinkRules, RelPath, quote};

/// Whether a source on this host is sent as what it is: a file, or a symlink without a slash at its end that does not
/// stand for a directory.
pub(super) fn is_no_directory(source: &OsStr, links: LinkRules) -> bool {
    let path = Path::new(source);
    path.metadata().is_ok_and(|found| !found.is_dir())
        || carried_name(source).is_some() && path.is_symlink() && !(path.is_dir() && stands_for(path, links))
}

/// Whether what a named symlink leads to is sent in its place, where that is a directory.
pub(super) fn stands_for(path: &Path, links: LinkRules) -> bool {
    let leads_out = || {
        let name = path.file_name().and_then(|name| RelPath::new(name.as_bytes()).ok()).unwrap_or_default();
        path.read_link().is_ok_and(|text| links.leads_out(&name, text.as_os_str().as_bytes()))
    };
    links.follows_named() || links.copy_unsafe && leads_out()
}

/// Refuses what rsync keeps of a path and speil does not.
pub(super) fn check_kept(sources: &Sources, leads: &[Option<Leads>], is_here: bool) -> Result<(), CliError> {
    if !sources.relative {
        return Ok(());
    }
    let mut dirs = BTreeSet::new();
    for (word, leads) in sources.words.iter().zip(leads) {
        let unkept = |why| CliError::Unkept(quote(word), why);
        let Some((dir, path)) = leads else { return Err(unkept("it has .. in it")) };
        dirs.insert(dir);
        let Some(path) = path else { continue };
        let is_link = |path: &RelPath| dir.join(OsStr::from_bytes(path.as_bytes())).is_symlink();
        let way = std::iter::successors(Some(path.clone()), RelPath::parent).filter(|at| !at.is_root());
        // The last one is followed only with a slash behind it.
        let mut followed = way.skip(usize::from(!word.ends_with(b"/")));
        if is_here && followed.any(|at| is_link(&at)) {
            return Err(unkept("a directory on the way is a symlink"));
        }
    }
    // Of several directories one path could be meant in one and not in the other.
    let paths: Vec<&RelPath> = leads.iter().flatten().filter_map(|(_, path)| path.as_ref()).collect();
    let nested = |one: &RelPath| paths.iter().any(|other| *other != one && other.is_within(one));
    if dirs.len() > 1 && (paths.len() < leads.len() || paths.iter().any(|path| nested(path))) {
        let word = sources.words.first().map(|word| quote(word)).unwrap_or_default();
        return Err(CliError::Unkept(word, "another SOURCE leads into it from another directory"));
    }
    Ok(())
}

/// Refuses the same tree twice.
pub(super) fn refuse_twins(targets: &[Target]) -> Result<(), CliError> {
    let spelled: Vec<Target> = targets.iter().map(spelling::target).collect();
    for (at, (target, one)) in targets.iter().zip(&spelled).enumerate() {
        let same = |other: &Target| other.host == one.host && other.path == one.path;
        if spelled.iter().take(at).any(same) {
            return Err(CliError::TargetTwice(quote(target.to_string().as_bytes())));
        }
    }
    Ok(())
}

/// Looks at the source: it must be a directory.
///
/// # Errors
/// [`CliError::Source`] if it cannot be looked at, [`CliError::SourceNotDirectory`] for a file.
pub fn check_source(source: &Path) -> Result<(), CliError> {
    let quoted = || quote(source.as_os_str().as_bytes());
    match std::fs::metadata(source) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(CliError::SourceNotDirectory(quoted())),
        Err(error) => Err(CliError::Source { path: quoted(), source: error }),
    }
}
