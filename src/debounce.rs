//! interim
use crate::batch::{Change, ChangeKind, Identity, Scope};
use crate::event::{Event, EventKind};
use crate::tree::RelPath;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Tuning.
#[derive(Debug, Clone)]
pub struct Options {
    /// a
    pub delay: Duration,
    /// a
    pub max_delay: Duration,
    /// a
    pub max_open: Duration,
    /// a
    pub delete_quiet: Duration,
    /// a
    pub delete_wait_max: Duration,
    /// a
    pub few_deletes: usize,
    /// a
    pub paths_max: usize,
}
/// One thing due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// a
    Change(Change),
    /// a
    Burst(Vec<Change>),
}
#[derive(Debug, Clone)]
struct Dirt {
    first: Instant,
    due: Instant,
    scope: Scope,
    dir: bool,
    created: bool,
}
/// interim
pub struct Debounce {
    options: Options,
    dirt: BTreeMap<RelPath, Dirt>,
    last: BTreeMap<RelPath, Instant>,
    deletes: BTreeMap<RelPath, (bool, Instant)>,
    last_delete: Option<Instant>,
    first_delete: Option<Instant>,
    ready: Vec<Item>,
}
impl Debounce {
    /// new
    pub fn new(options: Options) -> Self {
        Self {
            options,
            dirt: BTreeMap::new(),
            last: BTreeMap::new(),
            deletes: BTreeMap::new(),
            last_delete: None,
            first_delete: None,
            ready: Vec::new(),
        }
    }
    fn mark(&mut self, path: &RelPath, at: Instant, edge: bool, scope: Scope, dir: bool, created: bool) {
        self.deletes.remove(path);
        let delay = self.options.delay;
        let quiet = self.last.get(path).is_none_or(|last| at.duration_since(*last) >= delay);
        let max_delay = self.options.max_delay;
        let dirt = self.dirt.entry(path.clone()).or_insert(Dirt { first: at, due: at, scope, dir, created });
        if scope == Scope::Content {
            dirt.scope = Scope::Content;
        }
        dirt.due = if edge && quiet { at } else { (at + delay).min(dirt.first + max_delay) };
        dirt.created |= created;
    }
    /// event
    pub fn event(&mut self, event: Event) {
        let at = event.at;
        match event.kind {
            EventKind::Modify(path) => self.mark(&path, at, false, Scope::Content, false, false),
            EventKind::CloseWrite(path) => self.mark(&path, at, true, Scope::Content, false, false),
            EventKind::Create { path, dir } => self.mark(&path, at, dir, Scope::Content, dir, true),
            EventKind::Attrib { path, dir } => self.mark(&path, at, true, Scope::Attributes, dir, false),
            EventKind::Delete { path, dir } => {
                self.dirt.retain(|p, _| !p.is_within(&path));
                self.deletes.insert(path, (dir, at));
                self.last_delete = Some(at);
                self.first_delete.get_or_insert(at);
            }
            EventKind::Move { from, to, dir } => self.moved(from, to, dir, at),
            EventKind::Rescan { path, reason } => {
                self.dirt.retain(|p, _| !p.is_within(&path));
                self.deletes.retain(|p, _| !p.is_within(&path));
                self.ready
                    .push(Item::Change(Change { since: at, kind: ChangeKind::Rescan { path, reason } }));
            }
        }
    }
    fn moved(&mut self, from: RelPath, to: RelPath, dir: bool, at: Instant) {
        let over: Vec<RelPath> = self.deletes.keys().filter(|p| p.is_within(&to)).cloned().collect();
        let burst = self.burst(over);
        if !burst.is_empty() {
            self.ready.push(Item::Burst(burst));
        }
        // A write to the new name may be told before the move: what is dirty there stays so.
        let kept: Vec<(RelPath, Dirt)> =
            self.dirt.iter().filter(|(p, _)| p.is_within(&to)).map(|(p, d)| (p.clone(), d.clone())).collect();
        self.dirt.retain(|p, _| !p.is_within(&to));
        let never = self.dirt.get(&from).is_some_and(|d| d.created);
        let below: Vec<RelPath> = self.dirt.keys().filter(|p| p.is_within(&from)).cloned().collect();
        if never {
            self.mark(&to, at, true, Scope::Content, dir, true);
            if dir {
                let kind = ChangeKind::Rescan { path: to.clone(), reason: crate::event::RescanReason::Moved };
                self.ready.push(Item::Change(Change { since: at, kind }));
            }
        } else {
            self.ready.push(Item::Change(Change {
                since: at,
                kind: ChangeKind::Rename { from: from.clone(), to: to.clone(), dir },
            }));
        }
        for path in below {
            let Some(d) = self.dirt.remove(&path) else { continue };
            if let Some(new) = path.rebase(&from, &to) {
                self.dirt.insert(new, Dirt { due: at, ..d });
            }
        }
        for (path, dirt) in kept {
            self.dirt.entry(path).or_insert(Dirt { created: false, scope: Scope::Content, ..dirt });
        }
        if never {
            // What the target may still hold under the old name is older than the move.
            self.deletes.insert(from.clone(), (dir, at));
            self.last_delete = Some(at);
            self.first_delete.get_or_insert(at);
            return;
        }
        let gone: Vec<RelPath> = self.deletes.keys().filter(|p| p.is_within(&from)).cloned().collect();
        for path in gone {
            let Some(d) = self.deletes.remove(&path) else { continue };
            if let Some(new) = path.rebase(&from, &to) {
                self.deletes.insert(new, d);
            }
        }
    }
    fn burst(&mut self, mut paths: Vec<RelPath>) -> Vec<Change> {
        paths.sort_by(|a, b| b.cmp(a));
        paths
            .into_iter()
            .filter_map(|path| {
                let (dir, since) = self.deletes.remove(&path)?;
                Some(Change { since, kind: ChangeKind::Delete { path, expected: Identity::Dir(dir) } })
            })
            .collect()
    }
    fn deletes_due(&self) -> Option<Instant> {
        let (last, first) = (self.last_delete?, self.first_delete?);
        if self.deletes.is_empty() {
            return None;
        }
        if self.deletes.len() < self.options.few_deletes {
            return Some(last + self.options.delay);
        }
        Some((last + self.options.delete_quiet).min(first + self.options.delete_wait_max))
    }
    /// due
    pub fn due(&mut self, now: Instant) -> Vec<Item> {
        let mut out = std::mem::take(&mut self.ready);
        let due: Vec<RelPath> =
            self.dirt.iter().filter(|(_, d)| d.due <= now).map(|(p, _)| p.clone()).collect();
        let mut items: Vec<(bool, RelPath, Dirt)> = due
            .into_iter()
            .filter_map(|p| {
                let d = self.dirt.remove(&p)?;
                Some((!d.dir, p, d))
            })
            .collect();
        items.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (_, path, d) in items {
            self.last.insert(path.clone(), now);
            out.push(Item::Change(Change {
                since: d.first,
                kind: ChangeKind::Update { path, scope: d.scope },
            }));
        }
        if self.last.len() > 10_000 {
            let cut = self.options.delay;
            self.last.retain(|_, t| now.duration_since(*t) < cut);
        }
        if self.deletes_due().is_some_and(|at| at <= now) {
            let all = self.deletes.keys().cloned().collect();
            let burst = self.burst(all);
            self.first_delete = None;
            self.last_delete = None;
            out.push(Item::Burst(burst));
        }
        out
    }
    /// deadline
    pub fn deadline(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return self.ready.iter().map(|_| Instant::now()).next();
        }
        self.dirt.values().map(|d| d.due).min().into_iter().chain(self.deletes_due()).min()
    }
    /// sent
    pub fn sent(&mut self, _path: &RelPath, _at: Instant, _took: Duration) {}
    /// open
    pub fn still_open(&mut self, path: &RelPath, now: Instant) {
        self.dirt.insert(
            path.clone(),
            Dirt {
                first: now,
                due: now + self.options.max_open,
                scope: Scope::Content,
                dir: false,
                created: false,
            },
        );
    }
    /// again
    pub fn again(&mut self, path: &RelPath, now: Instant, after: Duration) {
        self.dirt.entry(path.clone()).or_insert(Dirt {
            first: now,
            due: now + after,
            scope: Scope::Content,
            dir: false,
            created: false,
        });
    }
    /// gone
    pub fn gone(&mut self, path: &RelPath, dir: Option<bool>, now: Instant) {
        if self.deletes.contains_key(path) {
            return;
        }
        self.deletes.insert(path.clone(), (dir.unwrap_or(false), now));
        self.last_delete = Some(now);
        self.first_delete.get_or_insert(now);
    }
    /// pending
    pub fn pending(&self) -> (usize, Option<Instant>) {
        (
            self.dirt.len() + self.deletes.len(),
            self.dirt.values().map(|d| d.first).chain(self.deletes.values().map(|d| d.1)).min(),
        )
    }
    /// all
    pub fn drain_all(&mut self, now: Instant) -> Vec<Item> {
        for d in self.dirt.values_mut() {
            d.due = now;
        }
        self.due(now)
    }
}
