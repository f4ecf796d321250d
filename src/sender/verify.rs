//! Reading every byte on both sides and telling each difference: `speil verify`.
//!
//! **In → Out:** a source and a transport; [`Finding`]s. **Invariants:** nothing is changed on either side
//! and no lock is taken, so a mirror may be at work meanwhile; both sides read at once; a difference
//! counts if it is still there at a second look, for which what differed is read again.
//! **Not here:** repairing (`pass`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::dialogue::{Dialogue, Heard, odd};
use super::error::SessionError;
use super::hello::{hello, place_of};
use super::owners::TargetView;
use super::replies::PassReply;
use super::session::SessionOptions;
use super::source::{Source, is_absence};
use crate::error::errno_of;
use crate::filter::Filter;
use crate::protocol::{Errand, Listing, PassId, ScanOptions, ToReceiver};
use crate::reconcile::{Difference, Rules, compare};
use crate::scan::{self, Options, Role, Scan};
use crate::transport::Transport;
use crate::tree::{Chmod, Entry, FileId, Kind, LinkDigest, Mask, Owning, RelPath};

/// The one pass of such a conversation.
const PASS: PassId = 1;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: RelPath,
    /// What differs.
    pub nature: Nature,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nature {
    /// The content of a file; metadata perhaps as well.
    Content {
        /// What the source holds, with its BLAKE3.
        source: Box<Entry>,
        /// What the target holds, with its BLAKE3.
        target: Box<Entry>,
    },
    /// Metadata, or where a symlink points, or which device it is.
    Metadata {
        /// What the source holds.
        source: Box<Entry>,
        /// What the target holds.
        target: Box<Entry>,
    },
    /// The type.
    Type(Kind, Kind),
    /// The target lacks it.
    Missing(Kind),
    /// The source lacks it.
    Extra(Kind),
    /// It is linked with other names than on the source.
    Links,
    /// It could not be read, with the errno; on the target if `true`.
    Unreadable(i32, bool),
}

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verified {
    /// Entries on the source, without the top.
    pub entries: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
    /// Properties that are compared.
    pub mask: Mask,
}

/// Reads both sides whole and tells each difference, in the order of the paths.
///
/// # Errors
/// [`SessionError`], as for a session.
pub fn verify(
    transport: &dyn Transport,
    options: &SessionOptions,
    source: &Arc<Source>,
    tell: &mut dyn FnMut(Finding),
) -> Result<Verified, SessionError> {
    match attempt(transport, options, source, tell) {
        Err(SessionError::Ended(ended)) if transport.mend(&ended)? => {
            attempt(transport, options, source, tell)
        }
        other => other,
    }
}

fn attempt(
    transport: &dyn Transport,
    options: &SessionOptions,
    source: &Arc<Source>,
    tell: &mut dyn FnMut(Finding),
) -> Result<Verified, SessionError> {
    let sync = &options.sync;
    let filter = Filter::new(&sync.filters).map_err(|error| SessionError::Option(error.to_string()))?;
    let here = place_of(source)?;
    Dialogue::hold(transport, sync.timeout, |talk| {
        let mut hello = hello(options, here);
        hello.terms.errand = Errand::Keeper;
        let greeting = talk.greet(hello)?;
        let mask = Mask { checksum: true, ..sync.mask.both(greeting.profile) };
        let view = talk.keep_alive(|ask| {
            TargetView::new(mask, Chmod::default(), Owning::default(), sync.selection.numeric_ids, ask)
        })?;
        let options = Options {
            mask,
            filter: Arc::new(filter),
            role: Role::Source,
            one_file_system: sync.selection.one_file_system,
            recursive: true,
            checksum: true,
            links: sync.selection.links,
            prune: sync.selection.prune,
        };
        let mut both = Both { talk, source, view, options, local: Scan::default() };
        let verified = both.run(tell)?;
        // A goodbye that does not arrive costs nothing.
        let _ = both.talk.say(&ToReceiver::Bye);
        Ok(verified)
    })
}

/// Which sides have a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    Both,
    Source,
    Target,
}

/// Directories that differ.
type Suspects = BTreeMap<RelPath, Sides>;
/// Directories that are to be looked at.
type Tasks = Vec<(RelPath, Sides)>;

struct Both<'a> {
    talk: &'a mut Dialogue,
    source: &'a Arc<Source>,
    view: Arc<TargetView>,
    options: Options,
    local: Scan,
}

impl Both<'_> {
    fn run(&mut self, tell: &mut dyn FnMut(Finding)) -> Result<Verified, SessionError> {
        let options = ScanOptions { checksum: true, recursive: true };
        self.talk.say(&ToReceiver::Scan { pass: PASS, top: RelPath::root(), options })?;
        let theirs = self.read_both()?;
        let mut findings = self.unreadable(&theirs.problems);
        if self.local.top.is_none() {
            let (_, errno) = self.local.problems.first().cloned().unwrap_or((RelPath::root(), libc::ENOENT));
            return Err(SessionError::Source(crate::error::errno_text(errno)));
        }
        let (ours, top) = (self.local.top.take(), theirs.top);
        let (first, suspects) = self.look(ours, top)?;
        // What changed under our eyes, or is on its way, is no difference.
        let first: BTreeSet<RelPath> = first.into_iter().map(|finding| finding.path).collect();
        for (dir, sides) in suspects {
            let (found, _) = self.compare_dir(&dir, sides)?;
            findings.extend(found.into_iter().filter(|finding| first.contains(&finding.path)));
        }
        findings.extend(self.tops()?);
        if self.options.mask.hard_links && theirs.links != self.local.links.finish() {
            findings.extend(self.links()?);
        }
        findings.sort_by(|a, b| a.path.cmp(&b.path));
        findings.dedup();
        findings.into_iter().for_each(tell);
        Ok(Verified { entries: self.local.entries, bytes: self.local.bytes, mask: self.options.mask })
    }

    /// Walks here while the target walks there.
    fn read_both(&mut self) -> Result<Theirs, SessionError> {
        let (root, options, view) = (self.source.root(), &self.options, &self.view);
        let (local, theirs) = std::thread::scope(|scope| {
            let walk = std::thread::Builder::new()
                .name("verify".to_owned())
                // Walks recurse, a level of the tree each.
                .stack_size(64 << 20)
                .spawn_scoped(scope, || scan::walk(&root, &RelPath::root(), options, &**view))
                .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
            let theirs = match self.talk.hear_at_last()? {
                Heard::Pass(PassReply::Scanned { top, links, entries: _, problems }) => {
                    Theirs { top, links, problems }
                }
                _ => return Err(odd()),
            };
            let local = walk.join().map_err(|_| SessionError::Source("the walk ended".to_owned()))?;
            Ok((local, theirs))
        })?;
        self.local = local;
        Ok(theirs)
    }

    fn unreadable(&self, theirs: &[(RelPath, i32)]) -> Vec<Finding> {
        let told = |(path, errno): &(RelPath, i32), there| {
            let gone = is_absence(&std::io::Error::from_raw_os_error(*errno));
            (!gone).then(|| Finding { path: path.clone(), nature: Nature::Unreadable(*errno, there) })
        };
        let ours = self.local.problems.iter().filter_map(|problem| told(problem, false));
        ours.chain(theirs.iter().filter_map(|problem| told(problem, true))).collect()
    }

    /// Descends where digests differ; returns what differs, and the directories that it lies in.
    fn look(
        &mut self,
        ours: Option<Entry>,
        theirs: Option<Box<Entry>>,
    ) -> Result<(Vec<Finding>, Suspects), SessionError> {
        let (mut findings, mut suspects) = (Vec::new(), Suspects::new());
        let digests = (ours.and_then(|top| top.digest), theirs.as_ref().and_then(|top| top.digest));
        if digests.0.is_some() && digests.0 == digests.1 {
            return Ok((findings, suspects));
        }
        let sides = if theirs.is_some() { Sides::Both } else { Sides::Source };
        let mut waiting = vec![(RelPath::root(), sides)];
        while let Some((dir, sides)) = waiting.pop() {
            let (found, below) = self.compare_dir(&dir, sides)?;
            waiting.extend(below);
            if !found.is_empty() {
                suspects.insert(dir, sides);
                findings.extend(found);
            }
        }
        Ok((findings, suspects))
    }

    /// Compares one directory by its entries, contents read anew.
    fn compare_dir(&mut self, dir: &RelPath, sides: Sides) -> Result<(Vec<Finding>, Tasks), SessionError> {
        if sides != Sides::Source {
            self.talk.say(&ToReceiver::List { pass: PASS, dir: dir.clone() })?;
        }
        let mut findings = Vec::new();
        let ours = if sides == Sides::Target { Vec::new() } else { self.list(dir, &mut findings) };
        let mut theirs = if sides == Sides::Source { Vec::new() } else { self.listing(dir, &mut findings)? };
        // What a filter protects and what the mirror does not keep is no part of it.
        let options = &self.options;
        theirs.retain(|entry| {
            let (kind, path) = (entry.attrs.meta.kind, dir.join(&entry.name));
            let stays = options.filter.protects_entry(&path, kind == Kind::Dir);
            let here = ours.binary_search_by(|ours| ours.name.cmp(&entry.name)).is_ok();
            options.mask.carries(kind) && (here || !stays)
        });
        let mut below = Vec::new();
        // Below a mount point neither side has anything that is compared.
        let root = self.source.root();
        let ours_stops = |entry: &Entry| scan::stops_at(&root, &self.options, entry);
        let theirs_stops = |entry: &Entry| self.options.one_file_system && entry.digest.is_none();
        for difference in compare(&ours, &theirs, &self.options.mask, &Rules::default()) {
            let (entry, nature, more) = match difference {
                Difference::Missing(entry) => (
                    entry,
                    Some(Nature::Missing(entry.attrs.meta.kind)),
                    (is_dir(entry) && !ours_stops(entry)).then_some(Sides::Source),
                ),
                Difference::Extra(entry) if is_dir(entry) && theirs_stops(entry) => continue,
                Difference::Extra(entry) => (
                    entry,
                    Some(Nature::Extra(entry.attrs.meta.kind)),
                    is_dir(entry).then_some(Sides::Target),
                ),
                Difference::Below(ours, theirs) if ours_stops(ours) || theirs_stops(theirs) => continue,
                // Of a comparison by contents nothing looks alike that differs.
                Difference::Alike(..) => continue,
                Difference::Below(entry, _) => (entry, None, Some(Sides::Both)),
                // Nothing is spared: verify compares without these rules.
                Difference::Spared(_) => continue,
                Difference::Changed { source, target, .. } => {
                    let enters = is_dir(source) && !is_dir(target) && !ours_stops(source);
                    let more = enters.then_some(Sides::Source);
                    (source, Some(nature(source, target)), more)
                }
                Difference::Retyped { source, target } => {
                    (source, Some(nature(source, target)), Some(Sides::Target))
                }
            };
            let path = dir.join(&entry.name);
            below.extend(more.map(|sides| (path.clone(), sides)));
            findings.extend(nature.map(|nature| Finding { path, nature }));
        }
        Ok((findings, below))
    }

    fn list(&self, dir: &RelPath, findings: &mut Vec<Finding>) -> Vec<Entry> {
        let found = match scan::list(&self.source.root(), dir, &self.options, &*self.view) {
            Ok(found) => found,
            Err(error) if is_absence(&error) => return Vec::new(),
            Err(error) => {
                let nature = Nature::Unreadable(errno_of(&error), false);
                findings.push(Finding { path: dir.clone(), nature });
                return Vec::new();
            }
        };
        let mut entries = found.entries;
        for entry in &mut entries {
            entry.digest = self.local.digests.get(&dir.join(&entry.name)).copied();
        }
        entries
    }

    fn listing(&mut self, dir: &RelPath, findings: &mut Vec<Finding>) -> Result<Vec<Entry>, SessionError> {
        let mut entries = Vec::new();
        loop {
            let Heard::Pass(PassReply::Listing(Listing { dir: of, entries: piece, last, errno, .. })) =
                self.talk.hear_at_last()?
            else {
                return Err(odd());
            };
            if of != *dir {
                return Err(odd());
            }
            if errno != 0 && !is_absence(&std::io::Error::from_raw_os_error(errno)) {
                findings.push(Finding { path: dir.clone(), nature: Nature::Unreadable(errno, true) });
            }
            entries.extend(piece);
            if last {
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                entries.retain(|entry| crate::tree::check_name(&entry.name).is_ok());
                return Ok(entries);
            }
        }
    }

    /// Compares the two tops themselves.
    fn tops(&mut self) -> Result<Vec<Finding>, SessionError> {
        self.talk.say(&ToReceiver::EndPass { pass: PASS })?;
        let options = ScanOptions { checksum: false, recursive: false };
        self.talk.say(&ToReceiver::Scan { pass: PASS, top: RelPath::root(), options })?;
        let Heard::Pass(PassReply::Scanned { top, .. }) = self.talk.hear_at_last()? else {
            return Err(odd());
        };
        let path = RelPath::root();
        let Some(theirs) = top else {
            return Ok(vec![Finding { path, nature: Nature::Missing(Kind::Dir) }]);
        };
        let flat = Options { recursive: false, checksum: false, ..self.options.clone() };
        let ours = scan::walk(&self.source.root(), &RelPath::root(), &flat, &*self.view).top;
        let Some(ours) = ours.filter(|ours| self.options.mask.attrs_differ(&ours.attrs, &theirs.attrs))
        else {
            return Ok(Vec::new());
        };
        Ok(vec![Finding { path, nature: Nature::Metadata { source: Box::new(ours), target: theirs } }])
    }

    /// Returns the names that are linked otherwise than on the source.
    fn links(&mut self) -> Result<Vec<Finding>, SessionError> {
        self.talk.say(&ToReceiver::EndPass { pass: PASS })?;
        let options = ScanOptions { checksum: false, recursive: true };
        self.talk.say(&ToReceiver::Scan { pass: PASS, top: RelPath::root(), options })?;
        self.talk.say(&ToReceiver::Links { pass: PASS })?;
        let mut groups: Vec<Vec<RelPath>> = Vec::new();
        loop {
            match self.talk.hear_at_last()? {
                Heard::Pass(PassReply::Scanned { .. }) => {}
                Heard::Pass(PassReply::Links(piece, last)) => {
                    for group in piece {
                        // A group that goes on begins with its first name.
                        match groups.last_mut().filter(|last| last.first() == group.first()) {
                            Some(last) => last.extend(group.into_iter().skip(1)),
                            None => groups.push(group),
                        }
                    }
                    if last {
                        break;
                    }
                }
                _ => return Err(odd()),
            }
        }
        let by_name = |groups: &[Vec<RelPath>]| {
            // Compared by a digest: whole, each name would be compared with all of its group.
            let named = groups.iter().flat_map(|group| {
                let mut links = LinkDigest::default();
                group.iter().for_each(|name| links.add(FileId { dev: 0, ino: 0 }, name.clone()));
                let digest = links.finish();
                group.iter().map(move |name| (name.clone(), digest))
            });
            named.collect::<HashMap<_, _>>()
        };
        let (ours, theirs) = (by_name(&self.local.links.groups()), by_name(&groups));
        let names: BTreeSet<&RelPath> = ours.keys().chain(theirs.keys()).collect();
        let differ = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
        // A name that one side lacks was told as such.
        let there = differ.filter(|name| !self.source.vanished(name).unwrap_or(false));
        Ok(there.map(|name| Finding { path: name.clone(), nature: Nature::Links }).collect())
    }
}

/// What a target's walk told.
struct Theirs {
    top: Option<Box<Entry>>,
    links: crate::tree::Digest,
    problems: Vec<(RelPath, i32)>,
}

fn is_dir(entry: &Entry) -> bool {
    entry.attrs.meta.kind == Kind::Dir
}

fn nature(source: &Entry, target: &Entry) -> Nature {
    let kinds = (source.attrs.meta.kind, target.attrs.meta.kind);
    let (a, b) = (Box::new(source.clone()), Box::new(target.clone()));
    match kinds {
        (a, b) if a != b => Nature::Type(a, b),
        (Kind::File, _) if source.hash != target.hash => Nature::Content { source: a, target: b },
        _ => Nature::Metadata { source: a, target: b },
    }
}
