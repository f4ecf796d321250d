//! One inotify instance for several watchers.
//!
//! **Purpose:** a user has 128 instances where nobody has raised the limit, and a host may mirror more sources
//! than that. The ways to all sources share one instance. The first trees have one each; further ones share one
//! in groups of a few, so that a queue that runs over is that of a few.
//! **In → Out:** watches of each member; its events in the order of the kernel, under watch descriptors of its
//! own.
//! **Invariants:** reading the kernel waits for no member: what a member does not take is bounded, and beyond
//! that an overflow of this member alone. An overflow of the kernel's queue is one of every member, and of
//! nobody else. A new watch descriptor has no events from before it was asked for, also where another member
//! watches the directory already: what the kernel holds by then is handed out first.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::bounds::DRAIN_READS;
use super::kernel::{self, Kernel, Raw, Said, Wd};
use crate::event::{Moment, Reading};

/// So many trees have an instance each.
const ALONE_MAX: usize = 32;
/// So many of the others share one.
const GROUP_MAX: usize = 8;
/// Events that a member need not have taken before they count as an overflow: some of the kernel's queues.
const WAITING_MAX: usize = 1 << 16;
/// How often a watch is asked for that goes as soon as it is there.
const TRIES: usize = 4;

/// Returns how many instances the watches of so many trees take in one process.
pub(crate) fn instances(trees: u64) -> u64 {
    let (alone, group) = (ALONE_MAX as u64, GROUP_MAX as u64);
    u64::from(trees > 0) + trees.min(alone) + trees.saturating_sub(alone).div_ceil(group)
}

/// What this process has of instances.
struct Registry {
    /// Trees that have an instance each.
    alone: usize,
    ways: Option<Arc<Hub>>,
    groups: Vec<Arc<Hub>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { alone: 0, ways: None, groups: Vec::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a tree that has an instance to itself.
pub(super) struct Alone(());

impl Drop for Alone {
    fn drop(&mut self) {
        registry().alone -= 1;
    }
}

/// An instance to oneself, or a part of one that others use as well.
pub(super) enum Instance {
    Alone(Kernel, Alone),
    Shared(Seat),
}

impl Instance {
    /// Watches the directory behind an open fd, so that no path can lead elsewhere meanwhile.
    pub(super) fn add(&self, dir: BorrowedFd<'_>, mask: WatchFlags) -> Result<Wd, Errno> {
        self.add_path(&kernel::fd_path(dir), mask)
    }

    /// Watches the directory at a path of our own.
    pub(super) fn add_path(&self, path: &Path, mask: WatchFlags) -> Result<Wd, Errno> {
        match self {
            Self::Alone(kernel, _) => kernel.add(path, mask),
            Self::Shared(seat) => seat.add(path, mask),
        }
    }

    /// Drops a watch; one that the kernel dropped already is no error.
    pub(super) fn remove(&self, wd: Wd) {
        match self {
            Self::Alone(kernel, _) => kernel.remove(wd),
            Self::Shared(seat) => seat.remove(wd),
        }
    }

    /// Hands over what the kernel holds, up to `reads` buffers of it, and says whether it held anything.
    pub(super) fn drain(&mut self, reads: usize, visit: impl FnMut(Said)) -> bool {
        match self {
            Self::Alone(kernel, _) => kernel.drain(reads, visit),
            Self::Shared(seat) => seat.drain(reads, visit),
        }
    }

    /// Returns what the clock showed at the last mark.
    pub(super) fn reading(&self) -> Option<Reading> {
        match self {
            Self::Alone(kernel, _) => kernel.marks.reading(),
            Self::Shared(seat) => seat.hub.lock().kernel.marks.reading(),
        }
    }

    /// Whether something that was made at a time, in nanoseconds since 1970, was made at a moment or later.
    pub(super) fn is_since(&self, made: Option<i64>, moment: Moment) -> bool {
        match self {
            Self::Alone(kernel, _) => kernel.marks.is_since(made, moment),
            Self::Shared(seat) => seat.hub.lock().kernel.marks.is_since(made, moment),
        }
    }
}

impl AsFd for Instance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Alone(kernel, _) => kernel.as_fd(),
            Self::Shared(seat) => seat.bell.as_fd(),
        }
    }
}

/// Finds an instance for a tree.
///
/// # Errors
/// Why there is none.
pub(super) fn for_tree() -> Result<Instance, Errno> {
    let mut registry = registry();
    if registry.alone < ALONE_MAX {
        match Kernel::new() {
            Ok(kernel) => {
                registry.alone += 1;
                return Ok(Instance::Alone(kernel, Alone(())));
            }
            // Used up by other programs: those that are there must do.
            Err(Errno::MFILE) => {}
            Err(errno) => return Err(errno),
        }
    }
    registry.group().and_then(|hub| hub.join())
}

/// Finds a place for a tree in an instance that is shared.
#[cfg(test)]
pub(super) fn shared() -> Result<Instance, Errno> {
    registry().group().and_then(|hub| hub.join())
}

/// Finds a place for the way to a source.
///
/// # Errors
/// Why there is none.
pub(super) fn for_way() -> Result<Instance, Errno> {
    let mut registry = registry();
    let hub = match &registry.ways {
        Some(hub) => Arc::clone(hub),
        None => Arc::clone(registry.ways.insert(Hub::new()?)),
    };
    hub.join()
}

/// Asks something of an instance that is made for that. While it is there nobody else makes one, so that
/// questions do not use them up. `None`: there is none left, but a place in one that is shared.
///
/// # Errors
/// Why there is none.
pub(super) fn probe<T>(question: impl FnOnce(&Kernel) -> T) -> Result<Option<T>, Errno> {
    let registry = registry();
    match Kernel::new() {
        Ok(kernel) => Ok(Some(question(&kernel))),
        Err(Errno::MFILE) if !registry.groups.is_empty() => Ok(None),
        Err(errno) => Err(errno),
    }
}

impl Registry {
    /// Returns a group with room, a new one if there is none; where there can be none, the smallest.
    fn group(&mut self) -> Result<Arc<Hub>, Errno> {
        let by_size = |hub: &&Arc<Hub>| hub.lock().members.len();
        let smallest = self.groups.iter().min_by_key(by_size).map(Arc::clone);
        match smallest {
            Some(hub) if by_size(&&hub) < GROUP_MAX => Ok(hub),
            smallest => match Hub::new() {
                Ok(hub) => {
                    self.groups.push(Arc::clone(&hub));
                    Ok(hub)
                }
                Err(errno) => smallest.filter(|_| errno == Errno::MFILE).ok_or(errno),
            },
        }
    }

    /// Forgets an instance that nobody uses any more.
    fn leave(&mut self, hub: &Arc<Hub>) {
        if hub.lock().members.is_empty() {
            let others = |other: &Arc<Hub>| !Arc::ptr_eq(other, hub);
            self.groups.retain(others);
            self.ways.take_if(|ways| !others(ways));
            kernel::signal(&hub.stop);
        }
    }
}

/// One instance with its members.
struct Hub {
    inner: Mutex<Inner>,
    /// Readable while the kernel has something.
    ear: Arc<OwnedFd>,
    stop: OwnedFd,
}

struct Inner {
    kernel: Kernel,
    /// Who watches what, and as which descriptor of its own.
    watches: HashMap<Wd, Vec<(u64, Wd)>>,
    members: BTreeMap<u64, Member>,
    /// The number of the next member.
    next: u64,
}

struct Member {
    /// Readable while something waits.
    bell: Arc<OwnedFd>,
    waiting: Vec<Said>,
    /// How many events are among them.
    events: usize,
    overflow: bool,
    /// The kernel's descriptor of each watch.
    watches: HashMap<Wd, Wd>,
    /// The last descriptor that was given.
    last: Wd,
}

fn bell() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

impl Hub {
    fn new() -> Result<Arc<Self>, Errno> {
        let hub = Self::unserved()?;
        let serving = Arc::clone(&hub);
        std::thread::Builder::new()
            .name("speil-inotify".to_owned())
            .spawn(move || serving.serve())
            .map_err(|_| Errno::AGAIN)?;
        Ok(hub)
    }

    fn unserved() -> Result<Arc<Self>, Errno> {
        let kernel = Kernel::new()?;
        let ear = kernel.ear();
        let inner = Inner { kernel, watches: HashMap::new(), members: BTreeMap::new(), next: 0 };
        Ok(Arc::new(Self { inner: Mutex::new(inner), ear, stop: bell()? }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>) -> Result<Instance, Errno> {
        self.seat().map(Instance::Shared)
    }

    fn seat(self: &Arc<Self>) -> Result<Seat, Errno> {
        let bell = Arc::new(bell()?);
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        let member = Member {
            bell: Arc::clone(&bell),
            waiting: Vec::new(),
            events: 0,
            overflow: false,
            watches: HashMap::new(),
            last: 0,
        };
        inner.members.insert(id, member);
        drop(inner);
        Ok(Seat { hub: Arc::clone(self), id, bell })
    }

    /// Hands out what the kernel has, until the last member has left.
    fn serve(&self) {
        loop {
            let fds = [(self.ear.as_fd(), PollFlags::IN), (self.stop.as_fd(), PollFlags::IN)];
            if kernel::wait(fds, None)[1] {
                return;
            }
            self.lock().pump(DRAIN_READS);
        }
    }
}

impl Inner {
    /// Hands out what the kernel holds now, up to `reads` buffers of it.
    fn pump(&mut self, reads: usize) {
        let Self { kernel, watches, members, .. } = self;
        kernel.drain(reads, |said| {
            let raw = match said {
                Said::Event(raw) => raw,
                Said::Mark(moment) => return members.values_mut().for_each(|member| member.mark(moment)),
            };
            if raw.mask.contains(ReadFlags::QUEUE_OVERFLOW) {
                members.values_mut().for_each(|member| member.put(raw.clone()));
                return;
            }
            // Without one, it is the echo of a watch that was dropped.
            let Some(holders) = watches.get(&raw.wd) else { return };
            for (id, wd) in holders {
                if let Some(member) = members.get_mut(id) {
                    member.put(Raw { wd: *wd, ..raw.clone() });
                }
            }
            if raw.mask.contains(ReadFlags::IGNORED) {
                for (id, wd) in watches.remove(&raw.wd).into_iter().flatten() {
                    members.get_mut(&id).and_then(|member| member.watches.remove(&wd));
                }
            }
        });
    }

    /// Returns the descriptor that a member has for a watch of the kernel's.
    fn held(&self, id: u64, real: Wd) -> Option<Wd> {
        self.watches.get(&real)?.iter().find(|(holder, _)| *holder == id).map(|(_, wd)| *wd)
    }

    fn hold(&mut self, id: u64, real: Wd) -> Option<Wd> {
        let member = self.members.get_mut(&id)?;
        member.last = member.last.checked_add(1)?;
        member.watches.insert(member.last, real);
        self.watches.entry(real).or_default().push((id, member.last));
        Some(member.last)
    }

    /// Ends a member's part in a watch, and the watch if nobody else has one.
    fn release(&mut self, id: u64, real: Wd) {
        if let Some(holders) = self.watches.get_mut(&real) {
            holders.retain(|(holder, _)| *holder != id);
            if holders.is_empty() {
                self.watches.remove(&real);
                self.kernel.remove(real);
            }
        }
    }
}

impl Member {
    fn put(&mut self, raw: Raw) {
        if self.overflow {
            return;
        }
        if self.events == 0 {
            kernel::signal(&self.bell);
        }
        let repeated = |last: &Said| {
            let Said::Event(last) = last else { return false };
            last.mask == ReadFlags::MODIFY
                && raw.mask == last.mask
                && last.wd == raw.wd
                && last.name == raw.name
        };
        if self.waiting.last().is_some_and(repeated) {
            return;
        }
        self.overflow = self.events >= WAITING_MAX;
        let mask = if self.overflow { ReadFlags::QUEUE_OVERFLOW } else { raw.mask };
        self.events += 1;
        self.waiting.push(Said::Event(Raw { mask, ..raw }));
    }

    /// Takes in that everything was handed out that waited at a moment. Wakes nobody.
    fn mark(&mut self, moment: Moment) {
        if self.overflow {
            return;
        }
        match self.waiting.last_mut() {
            Some(Said::Mark(last)) => *last = moment,
            _ => self.waiting.push(Said::Mark(moment)),
        }
    }
}

/// A member's part in an instance.
pub(super) struct Seat {
    hub: Arc<Hub>,
    id: u64,
    bell: Arc<OwnedFd>,
}

impl Seat {
    /// Watches a directory.
    fn add(&self, path: &Path, mask: WatchFlags) -> Result<Wd, Errno> {
        let mut inner = self.hub.lock();
        for _ in 0..TRIES {
            // Another member may have asked for something else of the same directory.
            let real = inner.kernel.add(path, mask | WatchFlags::MASK_ADD)?;
            if let Some(wd) = inner.held(self.id, real) {
                return Ok(wd);
            }
            if inner.watches.contains_key(&real) {
                inner.pump(DRAIN_READS);
                if !inner.watches.contains_key(&real) {
                    // It has gone meanwhile.
                    continue;
                }
            }
            return inner.hold(self.id, real).ok_or(Errno::NOSPC);
        }
        Err(Errno::NOENT)
    }

    /// Drops a watch.
    fn remove(&self, wd: Wd) {
        let mut inner = self.hub.lock();
        if let Some(real) = inner.members.get_mut(&self.id).and_then(|member| member.watches.remove(&wd)) {
            inner.release(self.id, real);
        }
    }

    /// Hands over what there is for this member, after a look at the kernel, and says whether that was anything.
    fn drain(&self, reads: usize, visit: impl FnMut(Said)) -> bool {
        let mut inner = self.hub.lock();
        inner.pump(reads);
        let Some(member) = inner.members.get_mut(&self.id) else { return false };
        kernel::unsignal(&self.bell);
        member.overflow = false;
        let waiting = std::mem::take(&mut member.waiting);
        let any = std::mem::take(&mut member.events) > 0;
        drop(inner);
        waiting.into_iter().for_each(visit);
        any
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut registry = registry();
        let mut inner = self.hub.lock();
        for real in inner.members.remove(&self.id).into_iter().flat_map(|member| member.watches.into_values())
        {
            inner.release(self.id, real);
        }
        drop(inner);
        registry.leave(&self.hub);
    }
}

#[cfg(test)]
mod tests;
