//! Opening the sources of one command line as one tree.
//!
//! **In → Out:** words as they were written; a [`Source`] made of layers, with the list of what is meant of it.
//! **Invariants:** one that is missing is told and keeps no other away, but where it might have held what another one
//! lacks, nothing is deleted; a target within a source, or the other way round, is found before anything is sent.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::source::Source;
use super::whereabouts::Whereabouts;
use crate::config::{Leads, Listed, Sources};
use crate::disk::{Layer, Root};
use crate::error::errno_of;
use crate::tree::{Kind, Mask, RelPath};

/// What came of the words.
pub struct Opened {
    /// The tree; `None` if no word leads anywhere.
    pub source: Option<Arc<Source>>,
    /// What of it takes part; all of it if `None`.
    pub listed: Option<Vec<Listed>>,
    /// Words that lead nowhere, with the errno.
    pub missing: Vec<(Vec<u8>, i32)>,
    /// Directories that nobody asked to enter.
    pub skipped: Vec<RelPath>,
    /// The name of the only one, if that is no directory: what it may be called on the target.
    pub alone: Option<RelPath>,
    /// A directory is among them whose content goes straight into the target.
    pub is_whole: bool,
}

/// How a directory is opened that a word names.
pub type Open<'a> = &'a dyn Fn(&Path) -> io::Result<Root>;

/// Opens the sources of a command line, for `targets` targets.
///
/// # Errors
/// What dup(2) says; what single words lead to is in the result.
pub fn open_sources(
    sources: &Sources,
    recursive: bool,
    targets: usize,
    open: Open<'_>,
) -> io::Result<Opened> {
    let mut opening =
        Opening { layers: Vec::new(), whereabouts: Vec::new(), listed: BTreeSet::new(), recursive };
    let mut opened = Opened {
        source: None,
        listed: None,
        missing: Vec::new(),
        skipped: Vec::new(),
        alone: None,
        is_whole: false,
    };
    for (word, leads) in sources.words.iter().zip(sources.leads()) {
        // What a directory held whose content was asked for may be on the target: it is no missing argument.
        let is_content = leads.as_ref().is_some_and(|(_, path)| path.is_none());
        let found =
            leads.ok_or(libc::EINVAL).and_then(|leads| opening.add((sources, word.as_slice()), leads, open));
        match found {
            Ok(Some(skipped)) => opened.skipped.push(skipped),
            Ok(None) => {}
            Err(libc::ENOENT) if sources.may_miss && !is_content => {}
            Err(errno) => opened.missing.push((word.to_vec(), errno)),
        }
    }
    opened.is_whole = opening.layers.iter().any(|layer| layer.paths.is_none());
    // The directory that the tree's own is: as [`Root::layered`] takes it.
    let own = opening.layers.iter().find(|layer| layer.paths.is_none()).or(opening.layers.first());
    let Some(path) = own.map(|layer| layer.dir.clone()) else { return Ok(opened) };
    let mut renamed = None;
    if let [Gathered { paths: Some(paths), .. }] = &mut opening.layers[..]
        && let ([only], [at]) = (&mut paths[..], &opening.whereabouts[..])
        && !at.is_of_dir()
    {
        opened.alone = Some(only.clone());
        if let Some(called) = sources.called.as_ref().and_then(|name| RelPath::new(name.to_vec()).ok()) {
            let name = std::mem::replace(only, called.clone());
            opening.listed = BTreeSet::from([Listed { path: called.clone(), level: false }]);
            renamed = Some((called, name.name().to_vec()));
        }
    }
    let layers = opening.layers.into_iter().map(|layer| match layer.paths {
        None => Layer::whole(layer.root),
        Some(paths) => Layer::of(layer.root, paths),
    });
    let root = Root::layered(layers.collect())?;
    opened.listed = (!(opened.is_whole && recursive)).then(|| opening.listed.into_iter().collect());
    opened.source = Some(Source::of(root, &path, (targets, opening.whereabouts), renamed));
    Ok(opened)
}

/// A layer that is being gathered.
struct Gathered {
    dir: PathBuf,
    root: Root,
    paths: Option<Vec<RelPath>>,
}

struct Opening {
    layers: Vec<Gathered>,
    whereabouts: Vec<Whereabouts>,
    listed: BTreeSet<Listed>,
    recursive: bool,
}

impl Opening {
    /// Adds what a word leads to. Returns a directory that nobody asked to enter.
    fn add(
        &mut self,
        (sources, word): (&Sources, &[u8]),
        (dir, path): Leads,
        open: Open<'_>,
    ) -> Result<Option<RelPath>, i32> {
        let failed = |error: io::Error| errno_of(&error);
        let enters = self.recursive || sources.dirs;
        let Some(path) = path else {
            let root = open(&dir).map_err(failed)?;
            if !enters {
                return Ok(Some(RelPath::root()));
            }
            self.whereabouts.push(Whereabouts::of(&dir, root.id().ok(), None));
            self.listed.insert(Listed { path: RelPath::root(), level: !self.recursive });
            self.layers.push(Gathered { dir, root, paths: None });
            return Ok(None);
        };
        let known = self.layers.iter().position(|layer| layer.dir == dir && layer.paths.is_some());
        let opened = if known.is_none() { Some(open(&dir).map_err(failed)?) } else { None };
        let root = known.and_then(|at| self.layers.get(at)).map(|layer| &layer.root).or(opened.as_ref());
        let parent = root.ok_or(libc::EINVAL)?.parent(&path).map_err(failed)?;
        let found =
            root.ok_or(libc::EINVAL)?.entry_in(parent.fd.as_fd(), &path, parent.name, &Mask::nothing());
        let found = found.map_err(failed)?.ok_or(libc::ENOENT)?;
        let is_dir = found.attrs.meta.kind == Kind::Dir;
        if is_dir && !enters {
            return Ok(Some(path));
        }
        let id = is_dir.then_some(found.id);
        self.whereabouts.push(Whereabouts::of(&dir, id, Some(&path)));
        // `-dR a/` asks for one level of what is called `a` on the target, too.
        let level = is_dir && !self.recursive && (word.ends_with(b"/") || word.ends_with(b"/."));
        self.listed.insert(Listed { path: path.clone(), level });
        if sources.relative && dir.as_os_str() == "./" {
            // `./a` is on the way from `.`, as in rsync.
            self.listed.insert(Listed { path: RelPath::root(), level: false });
        }
        match known.and_then(|at| self.layers.get_mut(at)) {
            Some(layer) => layer.paths.get_or_insert_default().push(path),
            None => {
                let root = opened.ok_or(libc::EINVAL)?;
                self.layers.push(Gathered { dir, root, paths: Some(vec![path]) });
            }
        }
        Ok(None)
    }
}
