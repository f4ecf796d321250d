//! What happens on the source, and how its events reach the ledgers.

use std::time::Instant;

use speil::batch::{ChangeKind, Extent, Identity};
use speil::debounce::Item;
use speil::event::{Event, EventKind, Moment, RescanReason};
use speil::reconcile::{Count, Facts, Verdict, judge};
use speil::sender::core::Input;
use speil::sender::ledger::{Told, What};
use speil::tree::{FileId, RelPath};

use crate::fs::{Id, Inode, ROOT};
use crate::kernel::{Heard, Kind};
use crate::options::Mutant;
use crate::world::{WRITE_MAX, World, Write, told};

impl World {
    /// Somebody changes something.
    pub fn edit(&mut self) {
        let (one, other) = (self.rng.index(self.work.paths.len()), self.rng.index(self.work.paths.len()));
        let top = self.options.shape.twins && self.rng.one_in(3);
        let (path, to) = if top {
            (self.top(), self.top())
        } else {
            (self.work.paths[one].clone(), self.work.paths[other].clone())
        };
        let Some((dir, name)) = self.source.place(&path) else { return };
        let found = self.source.lookup(dir, name);
        let kind = if top { 7 } else { self.rng.below(12) };
        // Both directories of a rename are locked until both halves are queued: only writes come between.
        if found.is_none() || kind >= 5 {
            self.kernel.pass(true);
        }
        match (kind, found) {
            (0..=2, None) if self.options.links && self.rng.one_in(2) => self.link(&path, dir, name, &to),
            (0..=2, None) => self.create(&path, dir, name),
            (0..=4, Some(id)) if !self.source.is_dir(id) => self.write(&path, id, dir, name),
            (5 | 6, None) => {
                let ctime = self.coarse();
                let id = self.source.add_dir(ctime);
                self.source.link(dir, name, id);
                self.source.inode_mut(dir).ctime = ctime;
                self.kernel.emit(dir, name, Kind::Create, true);
                self.say(|| format!("mkdir {path}"));
                if self.options.links && self.rng.one_in(2) {
                    self.link_all(&path, id, &to);
                }
            }
            (7..=9, Some(id)) => {
                self.rename((&path, dir, name, id), &to);
            }
            (5, Some(id)) => {
                self.source.inode_mut(id).ctime = self.coarse();
                self.kernel.emit(dir, name, Kind::Attrib, self.source.is_dir(id));
                self.say(|| format!("chmod {path}"));
            }
            (10 | 11, Some(id)) if self.source.is_empty(id) && self.may_go(id) => {
                let is_dir = self.source.is_dir(id);
                self.source.unlink(dir, name);
                let ctime = self.coarse();
                [dir, id].into_iter().for_each(|id| self.source.inode_mut(id).ctime = ctime);
                self.kernel.emit(dir, name, Kind::Delete, is_dir);
                self.say(|| format!("rm {path}"));
            }
            _ => {}
        }
    }

    /// Returns one of the names in the root, or of those in a directory there.
    fn top(&mut self) -> RelPath {
        let at = self.rng.index(4);
        RelPath::new([&b"a"[..], b"b", b"c", b"a/b"][at]).unwrap_or_default()
    }

    fn create(&mut self, path: &RelPath, dir: Id, name: u8) {
        self.work.content += 1;
        let (ctime, stamp) = (self.coarse(), self.stamp());
        let id = self.source.add(Inode { content: self.work.content, stamp, ctime, ..Inode::default() });
        self.source.link(dir, name, id);
        self.source.inode_mut(dir).ctime = ctime;
        self.kernel.emit(dir, name, Kind::Create, false);
        self.kernel.emit(dir, name, Kind::Modify, false);
        let content = self.work.content;
        self.say(|| format!("create {path} content {content} stamp {stamp}"));
    }

    /// Gives a file another name; nothing else tells of it.
    fn link(&mut self, path: &RelPath, dir: Id, name: u8, existing: &RelPath) {
        let Some(id) = self.source.find(existing).filter(|id| !self.source.is_dir(*id)) else { return };
        let ctime = self.coarse();
        self.source.link(dir, name, id);
        [dir, id].into_iter().for_each(|id| self.source.inode_mut(id).ctime = ctime);
        self.kernel.emit(dir, name, Kind::Create, false);
        self.say(|| format!("ln {existing} {path}"));
    }

    /// Gives everything in a directory another name in a new one: `cp -al`.
    fn link_all(&mut self, path: &RelPath, dir: Id, existing: &RelPath) {
        let Some(from) = self.source.find(existing).filter(|from| *from != dir) else { return };
        for (name, _) in self.source.entries(from).to_vec() {
            self.link(&path.join(&[name]), dir, name, &existing.join(&[name]));
        }
    }

    /// Whether a name may be taken from a file. What was written through a name that is gone before anybody has
    /// looked at it is known of no file: nothing but the next comparison finds it at its other names.
    fn may_go(&self, id: Id) -> bool {
        let (file, links) = (FileId { dev: 0, ino: id as u64 }, self.source.inode(id).links);
        links < 2 || self.sides.iter().all(|side| side.ledger().knows_names(file, links))
    }

    fn stamp(&mut self) -> u8 {
        if self.options.shape.narrow { 0 } else { u8::try_from(self.rng.below(3)).unwrap_or(0) }
    }

    /// Writes into a file; often its size and time are what they were. A slow write stamps it now and tells of it
    /// at its end.
    fn write(&mut self, path: &RelPath, id: Id, dir: Id, name: u8) {
        self.work.content += 1;
        let (content, ctime) = (self.work.content, self.coarse());
        let stamp = self.rng.one_in(2).then(|| self.stamp());
        let slow = self.options.slow_writes && self.rng.one_in(3);
        let inode = self.source.inode_mut(id);
        (inode.content, inode.ctime) = (content, ctime);
        inode.stamp = stamp.unwrap_or(inode.stamp);
        self.say(|| format!("write {path} content {content} ctime {ctime} slow {slow}"));
        if slow {
            let end = self.time.clock + self.rng.below(WRITE_MAX - 8);
            self.work.writes.push(Write { inode: id, end });
        } else {
            self.kernel.emit(dir, name, Kind::Modify, false);
        }
    }

    /// Ends the slow writes whose time has come.
    pub fn finish_writes(&mut self) {
        while let Some(at) = self.work.writes.iter().position(|write| write.end <= self.time.clock) {
            self.finish_write(at);
        }
    }

    /// A slow write ends: its last bytes arrive, and the event.
    fn finish_write(&mut self, at: usize) {
        let Write { inode, .. } = self.work.writes.swap_remove(at);
        self.work.content += 1;
        self.source.inode_mut(inode).content = self.work.content;
        let content = self.work.content;
        if let Some((dir, name)) = self.source.name_of(inode) {
            self.kernel.emit(dir, name, Kind::Modify, false);
            self.say(|| format!("  a write ends: content {content}"));
        }
    }

    fn rename(&mut self, (path, dir, name, id): (&RelPath, Id, u8, Id), to: &RelPath) {
        let Some((to_dir, to_name)) = self.source.place(to) else { return };
        if to.is_within(path) || path.is_within(to) {
            return;
        }
        let over = self.source.lookup(to_dir, to_name);
        let (is_dir, ctime) = (self.source.is_dir(id), self.coarse());
        if let Some(over) = over.filter(|_| self.options.faults.exchange && self.rng.one_in(2)) {
            let over_is_dir = self.source.is_dir(over);
            self.source.unlink(dir, name);
            self.source.unlink(to_dir, to_name);
            self.source.link(dir, name, over);
            self.source.link(to_dir, to_name, id);
            for moved in [id, over, dir, to_dir] {
                self.source.inode_mut(moved).ctime = ctime;
            }
            let (there, back) = (self.kernel.cookie(), self.kernel.cookie());
            self.kernel.emit(dir, name, Kind::From(there), is_dir);
            self.kernel.emit(to_dir, to_name, Kind::To(there), is_dir);
            self.kernel.emit(to_dir, to_name, Kind::From(back), over_is_dir);
            self.kernel.emit(dir, name, Kind::To(back), over_is_dir);
            self.say(|| format!("exchange {path} {to}"));
            return;
        }
        let in_the_way = |over| {
            let source = &self.source;
            source.is_dir(over) != is_dir || !source.is_empty(over) || over == id || !self.may_go(over)
        };
        if over.is_some_and(in_the_way) {
            return;
        }
        self.source.unlink(to_dir, to_name);
        self.source.unlink(dir, name);
        self.source.link(to_dir, to_name, id);
        for moved in [id, dir, to_dir] {
            self.source.inode_mut(moved).ctime = ctime;
        }
        let cookie = self.kernel.cookie();
        self.kernel.emit(dir, name, Kind::From(cookie), is_dir);
        if self.options.faults.halves && self.rng.one_in(4) {
            self.kernel.delay = 1 + self.rng.below(8);
        }
        self.kernel.emit(to_dir, to_name, Kind::To(cookie), is_dir);
        self.kernel.delay = 0;
        self.say(|| format!("mv {path} {to} ctime {ctime}"));
    }

    /// Takes in what the watch says, at once or through the debounce.
    pub fn tell(&mut self, heard: Heard) {
        let at = self.now();
        if matches!(heard, Heard::Whole(_)) && self.options.is(Mutant::LostIsNotWhole) {
            return;
        }
        let kind = match &heard {
            Heard::Modify(path) => Some(EventKind::CloseWrite(path.clone())),
            Heard::Create { path, dir } => Some(EventKind::Create { path: path.clone(), dir: *dir }),
            Heard::Attrib { path, dir } => Some(EventKind::Attrib { path: path.clone(), dir: *dir }),
            Heard::Delete { path, dir } => Some(EventKind::Delete { path: path.clone(), dir: *dir }),
            Heard::Move { from, to, dir } => {
                Some(EventKind::Move { from: from.clone(), to: to.clone(), dir: *dir })
            }
            Heard::Lost => Some(EventKind::Rescan { path: RelPath::root(), reason: RescanReason::Overflow }),
            Heard::Compare(path) | Heard::Watched(path) => {
                Some(EventKind::Rescan { path: path.clone(), reason: RescanReason::Moved })
            }
            // The debounce does not know of these.
            Heard::Swap(..) | Heard::Whole(_) => None,
        };
        match (&mut self.delayed, kind) {
            (Some(delayed), Some(kind)) => delayed.debounce.event(Event { at, change: Moment::NEVER, kind }),
            (Some(_), None) => {
                self.hand_on(true);
                self.tell_all(&told(&heard, false), at);
            }
            (None, _) => {
                let held = self.options.guard && self.rng.one_in(4);
                self.tell_all(&told(&heard, held), at);
            }
        }
    }

    fn tell_all(&mut self, told: &Told, since: Instant) {
        let now = self.now();
        for side in &mut self.sides {
            side.session.take(Input::Told { told: told.clone(), since }, now);
            match told {
                Told::Changed { path, .. } | Told::Gone { path, held: false, .. } => side.supersede(path),
                Told::Swapped { one, other } => {
                    [one, other].into_iter().for_each(|path| side.supersede(path))
                }
                _ => {}
            }
            if matches!(told, Told::Gone { held: true, .. }) {
                side.remember_held();
            }
        }
    }

    /// Takes out of the debounce what is due, or everything, and lets the marks through behind which nothing waits.
    pub fn hand_on(&mut self, all: bool) {
        let now = self.now();
        let Some(delayed) = &mut self.delayed else { return };
        let items = if all { delayed.debounce.drain_all(now) } else { delayed.debounce.due(now) };
        let oldest = delayed.debounce.pending().1;
        let through =
            delayed.marks.iter().take_while(|(at, _)| oldest.is_none_or(|oldest| oldest > *at)).count();
        let marks: Vec<_> = delayed.marks.drain(..through).collect();
        for item in items {
            self.say(|| format!("  due {item:?}"));
            let (changes, held) = match item {
                Item::Change(change) => (vec![change], false),
                Item::Burst(changes) => {
                    let held = self.options.guard && self.holds(changes.len());
                    (changes, held)
                }
            };
            for change in changes {
                if let Some(told) = of_change(change.kind, held) {
                    self.tell_all(&told, change.age.since);
                }
            }
        }
        for (_, mark) in marks {
            self.sides.iter_mut().for_each(|side| side.session.take(Input::Mark(mark), now));
        }
    }

    /// The guard as it is, with a limit that small trees reach.
    fn holds(&self, deletes: usize) -> bool {
        let guard =
            speil::config::Guard { max_delete: speil::config::MaxDelete::Count(1), ..Default::default() };
        let empties = self.source.is_empty(ROOT);
        let tree = Count::exactly(10, 10);
        let facts = Facts { deletes, tree, empties_root: empties, doubt: None, in_part: false };
        judge(&guard, &facts) != Verdict::Go
    }
}

/// What the debounce hands on, for a ledger.
fn of_change(change: ChangeKind, held: bool) -> Option<Told> {
    Some(match change {
        ChangeKind::Update { path, scope } => {
            let what = match scope {
                Extent::Attributes => What::Attributes,
                Extent::Content => What::Content,
                Extent::Absent => What::Absent,
            };
            Told::Changed { path, what }
        }
        ChangeKind::Rename { from, to, dir } => Told::Renamed { from, to, dir },
        ChangeKind::Delete { path, expected } => {
            let dir = if expected == Identity::Any { None } else { Some(expected.is_dir()) };
            Told::Gone { path, dir, held }
        }
        ChangeKind::Rescan { path, .. } => Told::Compare { path, whole: false },
        ChangeKind::Name { .. } => return None,
    })
}
