//! Walks and listings for the sender's passes, beside the applying.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_bytes::ByteBuf;

use super::agreed::Agreement;
use super::install::is_of_session;
use super::own::Own;
use super::reply::Reply;
use crate::disk::{Root, read_entry, set_times};
use crate::error::errno_of;
use crate::filter::Filter;
use crate::protocol::{FrameError, Listing, PassId, ScanOptions, ToSender};
use crate::scan::{self, Doubt, Found, Options, Role, View};
use crate::tree::{Entry, Kind, Mask, RelPath};

/// The pass with which a session begins.
const FIRST_PASS: PassId = 1;
/// Passes at once.
const PASSES_MAX: usize = 32;
/// Questions that wait within a pass; the sender waits with more.
const ORDERS_MAX: usize = 4096;
/// Entries in one piece of a listing.
const PIECE_ENTRIES: usize = 2000;
/// Bytes of names in one piece of what belongs together.
const PIECE_LEN: usize = 256 << 10;
/// What a name takes in a message besides its bytes.
const LINK_LEN: usize = 16;
/// Unreadable entries that one walk reports.
const PROBLEMS_MAX: usize = 1000;

enum Order {
    List(RelPath),
    Links,
    Hash(RelPath),
    /// As the source has it, but for these names.
    Agreed(RelPath, Vec<ByteBuf>),
    /// At so many bytes a second.
    Prove(RelPath, u64),
}

/// The passes of a session, each on a thread of its own.
pub(super) struct Passes {
    root: Arc<Root>,
    reply: Arc<Reply>,
    filter: Arc<Filter>,
    mask: Mask,
    one_file_system: bool,
    role: Role,
    tag: u32,
    /// No other session works on the root.
    alone: bool,
    /// The root was made by this session and is still to be made like the source's.
    fresh: Arc<AtomicBool>,
    own: Option<Own>,
    /// Which files the sender is to be told to doubt.
    doubt: Option<Doubt>,
    orders: HashMap<PassId, Sender<Order>>,
    /// Passes that are to walk a directory beside the root; `None` where that is missing.
    besides: HashMap<PassId, Option<Arc<Root>>>,
}

impl Passes {
    pub fn new(root: Arc<Root>, reply: Arc<Reply>, filter: Filter, mask: Mask, tag: u32) -> Self {
        let filter = Arc::new(filter);
        let (fresh, orders) = (Arc::default(), HashMap::new());
        let (one_file_system, role, alone) = (false, Role::Target, true);
        let (own, doubt, besides) = (None, None, HashMap::new());
        Self {
            root,
            reply,
            filter,
            mask,
            one_file_system,
            role,
            tag,
            alone,
            fresh,
            own,
            doubt,
            orders,
            besides,
        }
    }

    /// Has a pass that is to begin walk another directory than the root.
    pub fn beside(&mut self, pass: PassId, root: Option<Arc<Root>>) {
        if self.besides.len() < PASSES_MAX {
            self.besides.insert(pass, root);
        }
    }

    /// Stays on the root's filesystem.
    pub fn one_file_system(mut self, on: bool) -> Self {
        self.one_file_system = on;
        self
    }

    /// Says whether the root is still to be made like the source's: until then it counts as missing.
    pub fn fresh(mut self, fresh: Arc<AtomicBool>) -> Self {
        self.fresh = fresh;
        self
    }

    /// Lists what stays on the target as well.
    pub fn whole(mut self, on: bool) -> Self {
        self.role = if on { Role::WholeTarget } else { Role::Target };
        self
    }

    /// Whether the session stays on the root's filesystem.
    pub fn stays_on_one(&self) -> bool {
        self.one_file_system
    }

    /// Whether entries of a directory may be deleted: not on another filesystem than
    /// the root's, where the session stays on that.
    pub fn may_delete_in(&self, dir: BorrowedFd<'_>) -> bool {
        let dev = |dir| rustix::fs::fstat(dir).map(|stat| stat.st_dev);
        !self.one_file_system || dev(dir).is_ok_and(|dev| self.root.id().is_ok_and(|home| home.dev == dev))
    }

    /// Says whether this session holds the root: without, what lies there may be another's at work.
    pub fn alone(mut self, alone: bool) -> Self {
        self.alone = alone;
        self
    }

    /// Gives what is known to be the agent's own.
    pub fn own(mut self, own: Option<Own>) -> Self {
        self.own = own;
        self
    }

    /// Doubts files, until told otherwise.
    pub fn doubting(mut self, doubt: Option<Doubt>) -> Self {
        self.doubt = doubt;
        self
    }

    /// Doubts nothing from now on: the tree is as the sender's.
    pub fn believe(&mut self) {
        self.doubt = None;
    }

    /// Starts a walk. One too many is answered as a subtree that cannot be read.
    pub fn start(&mut self, pass: PassId, top: RelPath, options: ScanOptions) -> Result<(), FrameError> {
        let (orders, inbox) = bounded(ORDERS_MAX);
        let beside = self.besides.get(&pass);
        if matches!(beside, Some(None)) {
            let (links, problems) = ([0; 32], Vec::new());
            return self.reply.send(&ToSender::Scanned { pass, top: None, links, entries: 0, problems });
        }
        let other = beside.cloned().flatten();
        let is_root = other.is_none();
        let worker = Pass {
            pass,
            root: other.unwrap_or_else(|| Arc::clone(&self.root)),
            reply: Arc::clone(&self.reply),
            options: Options {
                mask: Mask { checksum: options.checksum, ..self.mask },
                filter: Arc::clone(&self.filter),
                role: self.role,
                one_file_system: self.one_file_system,
                recursive: options.recursive,
                checksum: options.checksum,
                // What the source leaves out is for its own side to say.
                links: crate::tree::LinkRules::default(),
                prune: false,
            },
            tag: self.tag,
            // Elsewhere nothing is taken away.
            alone: self.alone && is_root,
            fresh: if is_root { Arc::clone(&self.fresh) } else { Arc::default() },
            doubt: self.doubt.filter(|_| is_root),
            agreement: self
                .own
                .clone()
                .filter(|_| is_root)
                .map(|own| Agreement::new(own, top.is_root() && options.recursive)),
        };
        let refused = top.clone();
        // After the first one the target is in use.
        let gives_way = top.is_root() && pass > FIRST_PASS;
        let started = self.orders.len() < PASSES_MAX
            && std::thread::Builder::new()
                .name("pass".to_owned())
                // Walks recurse, a level of the tree each.
                .stack_size(64 << 20)
                .spawn(move || {
                    if gives_way {
                        scan::give_way();
                    }
                    worker.run(&top, &inbox);
                })
                .is_ok();
        if started {
            self.orders.insert(pass, orders);
            return Ok(());
        }
        self.reply.send(&ToSender::Scanned {
            pass,
            top: None,
            links: [0; 32],
            entries: 0,
            problems: vec![(refused, libc::EAGAIN)],
        })
    }

    pub fn list(&self, pass: PassId, dir: RelPath) {
        if let Some(orders) = self.orders.get(&pass) {
            let _ = orders.send(Order::List(dir));
        }
    }

    pub fn links(&self, pass: PassId) {
        if let Some(orders) = self.orders.get(&pass) {
            let _ = orders.send(Order::Links);
        }
    }

    pub fn hash(&self, pass: PassId, path: RelPath) {
        if let Some(orders) = self.orders.get(&pass) {
            let _ = orders.send(Order::Hash(path));
        }
    }

    pub fn prove(&self, pass: PassId, path: RelPath, rate: u64) {
        if let Some(orders) = self.orders.get(&pass) {
            let _ = orders.send(Order::Prove(path, rate));
        }
    }

    pub fn agreed(&self, pass: PassId, dir: RelPath, except: Vec<ByteBuf>) {
        if let Some(orders) = self.orders.get(&pass) {
            let _ = orders.send(Order::Agreed(dir, except));
        }
    }

    pub fn end(&mut self, pass: PassId) {
        self.orders.remove(&pass);
        self.besides.remove(&pass);
    }
}

struct Pass {
    pass: PassId,
    root: Arc<Root>,
    reply: Arc<Reply>,
    options: Options,
    tag: u32,
    alone: bool,
    fresh: Arc<AtomicBool>,
    doubt: Option<Doubt>,
    agreement: Option<Agreement>,
}

impl View for Pass {
    fn mark(&self, entry: &Entry) -> Option<u64> {
        self.agreement.as_ref().and_then(|agreement| agreement.meet(entry))
    }

    fn temporary(&self, dir: BorrowedFd<'_>, name: &[u8]) {
        // What bears another's tag was left by a dead one, if this session holds the root alone.
        if self.alone && !is_of_session(name, self.tag) {
            let before = read_entry(dir, b"", &Mask::nothing()).ok().flatten();
            let removed = super::install::remove(dir, name, true).is_ok();
            // The walk has read the directory's time by now, and nobody would set it again.
            if let Some(before) = before.filter(|_| removed) {
                let _ = set_times(dir, before.attrs.meta.mtime);
            }
        }
    }
}

impl Pass {
    fn run(&self, top: &RelPath, orders: &Receiver<Order>) {
        let mut scan = scan::walk_doubting(&self.root, top, &self.options, (self, self.doubt));
        if let Some(mut entry) = scan.top.take() {
            scan.doubts.tell_top(top, &mut entry);
            scan.top = Some(entry);
        }
        if let Some(agreement) = self.agreement.as_ref().filter(|_| top.is_root() && self.options.recursive) {
            agreement.walked(&scan);
        }
        let mut problems = std::mem::take(&mut scan.problems);
        problems.truncate(PROBLEMS_MAX);
        let answer = ToSender::Scanned {
            pass: self.pass,
            top: scan
                .top
                .take()
                .filter(|_| !(top.is_root() && self.fresh.load(Ordering::Acquire)))
                .map(Box::new),
            links: scan.links.finish(),
            entries: scan.entries,
            problems,
        };
        let mut sent = self.reply.send(&answer);
        while let (Ok(()), Ok(order)) = (&sent, orders.recv()) {
            sent = match order {
                Order::List(dir) => self.list(dir, &scan),
                Order::Agreed(dir, except) => {
                    if let Some(agreement) = &self.agreement {
                        agreement.agreed(&dir, &except, &scan);
                    }
                    Ok(())
                }
                Order::Links => self.links(&scan),
                Order::Hash(path) => {
                    let hash = scan::hash(&self.root, &path).ok();
                    self.reply.send(&ToSender::Hashed { pass: self.pass, hash })
                }
                Order::Prove(path, rate) => {
                    // A sender that left takes its end of the stream along, and the process ends.
                    let hash = scan::prove(&self.root, &path, rate, &|| false).ok();
                    self.reply.send(&ToSender::Hashed { pass: self.pass, hash })
                }
            };
        }
    }

    fn list(&self, dir: RelPath, scan: &scan::Scan) -> Result<(), FrameError> {
        let piece = |entries, last, errno| {
            let listing = Listing { pass: self.pass, dir: dir.clone(), entries, last, errno };
            self.reply.send(&ToSender::Listing(listing))
        };
        let found = match scan::entries(&self.root, &dir, &self.options, self) {
            Ok(found) => found,
            Err(error) => return piece(Vec::new(), true, errno_of(&error)),
        };
        let agreement = self.agreement.as_ref().filter(|agreement| agreement.hears_of(&dir, scan));
        let (mut entries, mut foreign) = (Vec::new(), Vec::new());
        for found in found {
            let Found::Entry(mut entry) = found else { continue };
            if entry.attrs.meta.kind == Kind::Dir {
                entry.digest = scan.digests.get(&dir.join(&entry.name)).copied();
            }
            foreign.extend(agreement.and_then(|agreement| agreement.waits(&dir, &entry, scan)));
            scan.doubts.tell(&dir, &mut entry);
            entries.push(entry);
            if entries.len() >= PIECE_ENTRIES {
                piece(std::mem::take(&mut entries), false, 0)?;
            }
        }
        if let Some(agreement) = agreement {
            agreement.listed(&dir, foreign);
        }
        piece(entries, true, 0)
    }

    fn links(&self, scan: &scan::Scan) -> Result<(), FrameError> {
        for groups in pieces(scan.links.groups()) {
            self.reply.send(&ToSender::Links { pass: self.pass, groups, last: false })?;
        }
        self.reply.send(&ToSender::Links { pass: self.pass, groups: Vec::new(), last: true })
    }
}

/// Returns groups of names in pieces that fit a message. A group that does not fit one goes on in the next,
/// behind its first name.
fn pieces(groups: Vec<Vec<RelPath>>) -> Vec<Vec<Vec<RelPath>>> {
    let (mut pieces, mut piece, mut len) = (Vec::new(), Vec::new(), 0);
    for group in groups {
        let mut part: Vec<RelPath> = Vec::new();
        for name in group {
            len += name.as_bytes().len() + LINK_LEN;
            let first = part.first().cloned();
            part.push(name);
            if len >= PIECE_LEN {
                piece.push(std::mem::take(&mut part));
                pieces.push(std::mem::take(&mut piece));
                len = first.as_ref().map_or(0, |first| first.as_bytes().len() + LINK_LEN);
                part.extend(first);
            }
        }
        // Its first name alone was told with the piece before.
        if part.len() > 1 {
            piece.push(part);
        }
    }
    pieces.push(piece);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::FRAME_LEN_MAX;

    #[test]
    fn a_group_of_more_names_than_fit_a_message_is_told_in_parts_that_share_a_name() {
        let path = |text: String| RelPath::try_from(text.as_str()).unwrap();
        let many: Vec<RelPath> = (0..60_000).map(|at| path(format!("{}/{at:06}", "d".repeat(200)))).collect();
        let few = vec![path("x".to_owned()), path("y".to_owned())];
        let pieces = pieces(vec![many.clone(), few.clone()]);
        let len = |piece: &[Vec<RelPath>]| {
            piece.iter().flatten().map(|name| name.as_bytes().len() + 8).sum::<usize>()
        };
        assert!(pieces.iter().all(|piece| len(piece) < FRAME_LEN_MAX), "a piece is no message");
        let told: Vec<&Vec<RelPath>> = pieces.iter().flatten().collect();
        let mut joined = many[..1].to_vec();
        for part in told.iter().filter(|part| part[0] == many[0]) {
            joined.extend_from_slice(&part[1..]);
        }
        assert_eq!(joined, many);
        assert_eq!(told.last(), Some(&&few));
    }
}
