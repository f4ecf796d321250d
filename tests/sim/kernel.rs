//! The kernel's events and what `watch` makes of them.
//!
//! **What is assumed of the kernel**, each asked of it in `src/watch/tests/assumed.rs`:
//!
//! 1. Events come from watched directories alone, by the name that was used.
//! 2. An event that equals the last one in the queue is joined with it.
//! 3. A full queue keeps what it has, drops what comes, says so once, and goes on when it was read.
//! 4. Both halves of a rename share a number; one from or to where nobody watches has one half. (Others may come
//!    between them: no test can have that happen.)
//! 5. An exchange is two renames, there and back.
//! 6. A change time is not before the coarse clock as it was read ahead of the change.
//! 7. A write, a link, an unlink, a rename and a new time of a file move its change time; the rename of a directory
//!    moves the directory's, and none below it.
//! 8. A new watch tells of nothing that was before it.
//! 9. A watch goes along with its directory.
//! 10. What a rename replaces is not told of.

use std::collections::VecDeque;

use speil::sender::ledger::{NameTree, NodeId};
use speil::tree::RelPath;

use crate::fs::{Fs, Id, PROTECTED, ROOT};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Modify,
    Attrib,
    Delete,
    From(u32),
    To(u32),
    Overflow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    wd: usize,
    name: u8,
    kind: Kind,
    dir: bool,
}

/// What the watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Modify(RelPath),
    Create {
        path: RelPath,
        dir: bool,
    },
    Attrib {
        path: RelPath,
        dir: bool,
    },
    Delete {
        path: RelPath,
        dir: bool,
    },
    Move {
        from: RelPath,
        to: RelPath,
        dir: bool,
    },
    Swap(RelPath, RelPath),
    /// Events were lost.
    Lost,
    /// A directory is watched from now on.
    Watched(RelPath),
    /// A directory was found here ahead of its events, and its old watch's events were dropped.
    Compare(RelPath),
    /// A directory came here that nobody saw come.
    Whole(RelPath),
}

#[derive(Debug, Clone, Copy)]
struct Watch {
    wd: usize,
    inode: Id,
}

/// A name in a watched directory.
#[derive(Debug, Clone)]
struct Departed {
    wd: usize,
    name: u8,
    cookie: u32,
    dir: bool,
}

#[derive(Debug)]
pub struct Kernel {
    queue: VecDeque<Event>,
    pub capacity: usize,
    overflown: bool,
    /// Which watch an inode has; zero for none.
    watch_of: Vec<usize>,
    /// How many events were queued, and how many of them were handed on.
    pub emitted: u64,
    pub drained: u64,
    cookies: u32,
    /// Second halves of renames that are still under way.
    late: VecDeque<(u64, Event)>,
    known: NameTree<Watch>,
    node_of: Vec<Option<NodeId>>,
    departed: Option<Departed>,
    /// After how many steps the next second half of a rename comes.
    pub delay: u64,
    out: Vec<Heard>,
}

/// A name in a directory that is watched under some path.
struct Place {
    parent: Id,
    name: u8,
    path: RelPath,
}

impl Place {
    fn new(parent: Id, name: u8, path: RelPath) -> Self {
        Self { parent, name, path }
    }

    /// Returns the directory that is there.
    fn dir(&self, fs: &Fs) -> Option<Id> {
        fs.lookup(self.parent, self.name).filter(|id| fs.is_dir(*id))
    }
}

impl Kernel {
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            capacity,
            overflown: false,
            watch_of: Vec::new(),
            emitted: 0,
            drained: 0,
            cookies: 0,
            late: VecDeque::new(),
            known: NameTree::default(),
            node_of: vec![None],
            departed: None,
            delay: 0,
            out: Vec::new(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.late.is_empty() && self.departed.is_none()
    }

    pub fn cookie(&mut self) -> u32 {
        self.cookies += 1;
        self.cookies
    }

    /// The source changed.
    pub fn emit(&mut self, dir: Id, name: u8, kind: Kind, is_dir: bool) {
        let wd = self.watch_of.get(dir).copied().unwrap_or(0);
        if wd == 0 || name == PROTECTED {
            return;
        }
        let event = Event { wd, name, kind, dir: is_dir };
        if matches!(kind, Kind::To(_)) && self.delay > 0 {
            self.late.push_back((std::mem::take(&mut self.delay), event));
        } else {
            self.queue(event);
        }
    }

    /// Lets time pass for what is late; `all`: it comes now.
    pub fn pass(&mut self, all: bool) {
        for (steps, _) in &mut self.late {
            *steps = steps.saturating_sub(1);
        }
        while let Some(&(steps, event)) = self.late.front() {
            if steps > 0 && !all {
                return;
            }
            self.late.pop_front();
            self.queue(event);
        }
    }

    fn queue(&mut self, event: Event) {
        if self.queue.back() == Some(&event) && matches!(event.kind, Kind::Modify | Kind::Attrib) {
            return;
        }
        if self.queue.len() >= self.capacity {
            if !self.overflown {
                self.overflown = true;
                self.emitted += 1;
                self.queue.push_back(Event { wd: 0, name: 0, kind: Kind::Overflow, dir: false });
            }
            return;
        }
        self.emitted += 1;
        self.queue.push_back(event);
    }

    /// Starts anew: watches everything and has heard of everything.
    pub fn start(&mut self, fs: &Fs) {
        self.queue.clear();
        self.late.clear();
        (self.overflown, self.departed, self.drained) = (false, None, self.emitted);
        self.rebuild(fs);
    }

    fn rebuild(&mut self, fs: &Fs) {
        self.known = NameTree::default();
        self.watch_of.clear();
        self.node_of.iter_mut().for_each(|node| *node = None);
        let mut dirs = Vec::new();
        fs.each_dir(|path, id, _| dirs.push((path.clone(), id)));
        for (path, id) in dirs {
            self.add(&path, id);
        }
    }

    fn add(&mut self, path: &RelPath, inode: Id) {
        let wd = self.node_of.len();
        if self.watch_of.len() <= inode {
            self.watch_of.resize(inode + 1, 0);
        }
        self.watch_of[inode] = wd;
        let (node, watch) = self.known.at(path, || Watch { wd, inode });
        *watch = Watch { wd, inode };
        self.node_of.push(Some(node));
    }

    fn drop_at(&mut self, path: &RelPath) {
        for (_, watch) in self.known.cut(path) {
            self.forget(watch);
        }
    }

    fn forget(&mut self, watch: Watch) {
        self.node_of[watch.wd] = None;
        if self.watch_of[watch.inode] == watch.wd {
            self.watch_of[watch.inode] = 0;
        }
    }

    fn path(&self, wd: usize) -> Option<(RelPath, Id)> {
        let node = self.node_of[wd]?;
        let watch = self.known.get(node)?;
        Some((self.known.path(node), watch.inode))
    }

    /// Takes the next event, if there is one, and returns what it says.
    pub fn hear(&mut self, fs: &Fs) -> Vec<Heard> {
        let next = self.queue.pop_front();
        match (next, self.departed.take()) {
            (Some(event), Some(left)) if event.kind == Kind::To(left.cookie) => {
                self.renamed(fs, &left, event)
            }
            (event, left) => {
                if let Some(left) = left {
                    self.gone_for_good(fs, &left);
                }
                if let Some(event) = event {
                    self.single(fs, event);
                }
            }
        }
        // The half of a rename that waits was not handed on.
        self.drained = self.emitted - self.queue.len() as u64 - u64::from(self.departed.is_some());
        std::mem::take(&mut self.out)
    }

    fn single(&mut self, fs: &Fs, event: Event) {
        if event.kind == Kind::Overflow {
            return self.start_over(fs);
        }
        let Some((parent, inode)) = self.path(event.wd) else { return };
        let path = parent.join(&[event.name]);
        match event.kind {
            Kind::Create | Kind::To(_) => self.arrived(fs, Place::new(inode, event.name, path), event.dir),
            Kind::Modify => self.out.push(Heard::Modify(path)),
            Kind::Attrib => self.out.push(Heard::Attrib { path, dir: event.dir }),
            Kind::Delete => {
                self.drop_at(&path);
                self.out.push(Heard::Delete { path, dir: event.dir });
            }
            Kind::From(cookie) => {
                let Event { wd, name, dir, .. } = event;
                self.departed = Some(Departed { wd, name, cookie, dir });
            }
            Kind::Overflow => {}
        }
    }

    /// The other half of a rename did not come: it led to where nobody looks.
    fn gone_for_good(&mut self, fs: &Fs, left: &Departed) {
        let Some((parent, inode)) = self.path(left.wd) else { return };
        let path = parent.join(&[left.name]);
        self.drop_at(&path);
        self.out.push(Heard::Delete { path: path.clone(), dir: left.dir });
        // If it has changed places with something, nothing else tells of that.
        if let Some(id) = fs.lookup(inode, left.name) {
            self.arrived(fs, Place::new(inode, left.name, path.clone()), fs.is_dir(id));
            self.out.push(Heard::Compare(path));
        }
    }

    fn arrived(&mut self, fs: &Fs, place: Place, dir: bool) {
        self.out.push(Heard::Create { path: place.path.clone(), dir });
        if dir {
            self.grow(fs, &place, false);
        } else {
            self.drop_at(&place.path);
        }
    }

    /// Watches a directory, reads it, and says what it holds.
    fn grow(&mut self, fs: &Fs, place: &Place, reread: bool) {
        let Some(id) = place.dir(fs) else { return };
        let wd = self.watch_of.get(id).copied().unwrap_or(0);
        if let Some((known, _)) = (wd != 0).then(|| self.path(wd)).flatten() {
            if known == place.path {
                if reread {
                    self.read(fs, id, &known, reread);
                }
                return;
            }
            // It moved, and the events have yet to say so: it gets a new watch, without the old one's events.
            self.drop_at(&known);
            if let Some((above, name)) = known.parent().zip(known.as_bytes().last().copied())
                && let Some(watch) = self.known.value_at(&above).copied()
            {
                self.grow(fs, &Place::new(watch.inode, name, known), false);
            }
        }
        self.drop_at(&place.path);
        self.add(&place.path, id);
        self.read(fs, id, &place.path, reread);
    }

    fn read(&mut self, fs: &Fs, id: Id, path: &RelPath, reread: bool) {
        for &(name, entry) in fs.entries(id).iter().filter(|(name, _)| *name != PROTECTED) {
            let (below, dir) = (path.join(&[name]), fs.is_dir(entry));
            self.out.push(Heard::Create { path: below.clone(), dir });
            if dir {
                self.grow(fs, &Place::new(id, name, below), reread);
            }
        }
        self.out.push(Heard::Watched(path.clone()));
    }

    fn renamed(&mut self, fs: &Fs, left: &Departed, event: Event) {
        let (from, to) = match (self.path(left.wd), self.path(event.wd)) {
            (Some(from), Some(to)) => (from, to),
            (Some(_), None) => return self.gone_for_good(fs, left),
            (None, _) => return self.single(fs, event),
        };
        let from = Place::new(from.1, left.name, from.0.join(&[left.name]));
        let to = Place::new(to.1, event.name, to.0.join(&[event.name]));
        if self.goes_back(left, &event) {
            self.queue.drain(..2);
            self.known.swap(&from.path, &to.path);
            self.out.push(Heard::Swap(from.path.clone(), to.path.clone()));
            // What they hold now may be watched by the wrong name.
            for place in [from, to] {
                let watched = self.known.value_at(&place.path).map(|watch| watch.inode);
                if place.dir(fs).is_some_and(|id| watched != Some(id)) {
                    self.grow(fs, &place, true);
                }
            }
            return;
        }
        self.out.push(Heard::Move { from: from.path.clone(), to: to.path.clone(), dir: event.dir });
        if event.dir {
            self.move_dir(fs, &from, &to);
        } else {
            self.drop_at(&to.path);
            self.drop_at(&from.path);
        }
    }

    /// Whether the next two events are the way back of a rename: an exchange.
    fn goes_back(&self, left: &Departed, event: &Event) -> bool {
        let (Some(first), Some(second)) = (self.queue.front(), self.queue.get(1)) else { return false };
        matches!((first.kind, second.kind), (Kind::From(one), Kind::To(other)) if one == other)
            && (first.wd, first.name) == (event.wd, event.name)
            && (second.wd, second.name) == (left.wd, left.name)
    }

    fn move_dir(&mut self, fs: &Fs, from: &Place, to: &Place) {
        let watched = self.known.value_at(&from.path).map(|watch| watch.inode);
        let on_disk = to.dir(fs);
        let stays = watched.is_some() && on_disk.is_none() && fs.lookup(from.parent, from.name) == watched;
        match (watched, on_disk) {
            (Some(watched), disk) if !stays && disk.is_none_or(|disk| disk == watched) => {
                for (_, watch) in self.known.rename(&from.path, &to.path) {
                    self.forget(watch);
                }
            }
            (Some(watched), _) => {
                if fs.lookup(from.parent, from.name) != Some(watched) {
                    self.drop_at(&from.path);
                }
                self.grow(fs, from, true);
                self.grow(fs, to, true);
                self.out.extend([from, to].map(|place| Heard::Compare(place.path.clone())));
            }
            (None, Some(_)) => {
                self.grow(fs, to, true);
                self.out.push(Heard::Compare(to.path.clone()));
            }
            (None, None) => self.drop_at(&to.path),
        }
    }

    /// What waits is about the past. Everything is watched anew, and is to be compared.
    fn start_over(&mut self, fs: &Fs) {
        let before = std::mem::take(&mut self.known);
        self.queue.clear();
        self.late.clear();
        self.overflown = false;
        self.rebuild(fs);
        self.out.push(Heard::Lost);
        let out = &mut self.out;
        fs.each_dir(|path, id, _| {
            if id != ROOT && before.value_at(path).map(|watch| watch.inode) != Some(id) {
                out.push(Heard::Whole(path.clone()));
            }
        });
    }
}
