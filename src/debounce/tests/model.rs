//! A source, a target and changes that come late: whatever is done, both end up equal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_assert, prop_assert_eq, proptest};

use super::{
    Age, Change, ChangeKind, Debounce, Event, EventKind, Extent, Item, Moment, Options, RelPath,
    RescanReason, options, path,
};

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File { content: u32, attrs: u32 },
}

/// Everything but the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree(BTreeMap<RelPath, Node>);

impl Tree {
    fn is_dir(&self, at: &RelPath) -> bool {
        at.is_root() || self.0.get(at) == Some(&Node::Dir)
    }

    fn within(&self, top: &RelPath) -> Vec<RelPath> {
        self.0.keys().filter(|at| at.is_within(top)).cloned().collect()
    }

    fn remove(&mut self, top: &RelPath) {
        self.0.retain(|at, _| !at.is_within(top));
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        let moved: Vec<_> = self.within(from).into_iter().filter_map(|at| self.0.remove_entry(&at)).collect();
        self.remove(to);
        self.0.extend(moved.into_iter().filter_map(|(at, node)| Some((at.rebase(from, to)?, node))));
    }

    /// Makes a directory, and those that it needs.
    fn need_dir(&mut self, at: &RelPath) {
        if let (false, Some(parent)) = (at.is_root(), at.parent()) {
            self.need_dir(&parent);
            self.0.insert(at.clone(), Node::Dir);
        }
    }

    fn put(&mut self, at: &RelPath, node: Node) {
        if let Some(parent) = at.parent() {
            self.need_dir(&parent);
        }
        if node != Node::Dir {
            self.remove(at);
        }
        self.0.insert(at.clone(), node);
    }
}

/// What a user does.
#[derive(Debug, Clone)]
enum Deed {
    Write {
        at: RelPath,
        closes: bool,
    },
    Mkdir(RelPath),
    Move {
        from: RelPath,
        to: RelPath,
    },
    Delete(RelPath),
    MoveOut(RelPath),
    Touch(RelPath),
    Rescan(RelPath),
    /// The sender compares a subtree, of which nobody is told.
    Pass(RelPath),
    Wait(u64),
    /// The target does so many changes.
    Apply(usize),
}

fn any_path() -> impl Strategy<Value = RelPath> {
    // Few names, so that they meet often.
    let name = prop_oneof![Just("a"), Just("b")];
    collection::vec(name, 1..4).prop_map(|names| path(&names.join("/")))
}

fn any_deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        5 => (any_path(), any::<bool>()).prop_map(|(at, closes)| Deed::Write { at, closes }),
        3 => any_path().prop_map(Deed::Mkdir),
        5 => (any_path(), any_path()).prop_map(|(from, to)| Deed::Move { from, to }),
        3 => any_path().prop_map(Deed::Delete),
        2 => any_path().prop_map(Deed::MoveOut),
        2 => any_path().prop_map(Deed::Touch),
        1 => any_path().prop_map(Deed::Rescan),
        2 => any_path().prop_map(Deed::Pass),
        4 => prop_oneof![Just(1), Just(15), Just(25), Just(1100), 0_u64..3000].prop_map(Deed::Wait),
        4 => (0_usize..6).prop_map(Deed::Apply),
    ]
}

struct World {
    source: Tree,
    target: Tree,
    options: Options,
    debounce: Debounce,
    waiting: VecDeque<Change>,
    now: Instant,
    version: u32,
    /// Contents that were to be read once more.
    uncertain: BTreeSet<u32>,
    /// Events and requests that an update may come from.
    causes: usize,
    updates: usize,
}

impl World {
    fn new(options: Options) -> Self {
        Self {
            source: Tree::default(),
            target: Tree::default(),
            debounce: Debounce::new(options.clone()),
            options,
            waiting: VecDeque::new(),
            now: Instant::now(),
            version: 0,
            uncertain: BTreeSet::new(),
            causes: 0,
            updates: 0,
        }
    }

    fn event(&mut self, kind: EventKind) {
        self.causes += 1;
        self.debounce.event(Event { at: self.now, change: Moment::NEVER, kind });
    }

    fn does(&mut self, deed: Deed) -> Result<(), TestCaseError> {
        match deed {
            Deed::Write { at, closes } => self.write(at, closes),
            Deed::Mkdir(at) => {
                if self.has_room(&at) && !self.source.0.contains_key(&at) {
                    self.source.0.insert(at.clone(), Node::Dir);
                    self.event(EventKind::Create { path: at, dir: true });
                }
            }
            Deed::Move { from, to } => self.rename(from, to),
            Deed::Delete(at) => {
                for below in self.source.within(&at).into_iter().rev() {
                    let dir = self.source.is_dir(&below);
                    self.source.0.remove(&below);
                    self.event(EventKind::Delete { path: below, dir });
                }
            }
            Deed::MoveOut(at) => {
                if let Some(node) = self.source.0.get(&at).copied() {
                    self.source.remove(&at);
                    self.event(EventKind::Delete { path: at, dir: node == Node::Dir });
                }
            }
            Deed::Touch(at) => {
                if let Some(Node::File { attrs, .. }) = self.source.0.get_mut(&at) {
                    *attrs += 1;
                    self.event(EventKind::Attrib { path: at, dir: false });
                }
            }
            Deed::Pass(at) => self.repair(&at),
            Deed::Rescan(at) => self.event(EventKind::Rescan { path: at, reason: RescanReason::Unwatched }),
            Deed::Wait(ms) => self.now += Duration::from_millis(ms),
            Deed::Apply(count) => (0..count).for_each(|_| self.apply_one()),
        }
        self.turn()
    }

    fn has_room(&self, at: &RelPath) -> bool {
        at.parent().is_some_and(|parent| self.source.is_dir(&parent))
    }

    fn write(&mut self, at: RelPath, closes: bool) {
        if !self.has_room(&at) || self.source.is_dir(&at) {
            return;
        }
        self.version += 1;
        let attrs = match self.source.0.get(&at) {
            Some(Node::File { attrs, .. }) => *attrs,
            _ => 0,
        };
        if self.source.0.insert(at.clone(), Node::File { content: self.version, attrs }).is_none() {
            self.event(EventKind::Create { path: at.clone(), dir: false });
        }
        self.event(EventKind::Modify(at.clone()));
        if closes {
            self.event(EventKind::CloseWrite(at));
        }
    }

    fn rename(&mut self, from: RelPath, to: RelPath) {
        let Some(node) = self.source.0.get(&from).copied() else { return };
        let dir = node == Node::Dir;
        let over = self.source.0.get(&to).copied();
        let fits = match over {
            None => true,
            Some(Node::Dir) => dir && self.source.within(&to).len() == 1,
            Some(Node::File { .. }) => !dir,
        };
        if !fits || to.is_within(&from) || !self.has_room(&to) {
            return;
        }
        self.source.rename(&from, &to);
        self.event(EventKind::Move { from, to, dir });
    }

    fn turn(&mut self) -> Result<(), TestCaseError> {
        let items = self.debounce.due(self.now);
        let next = self.debounce.deadline();
        prop_assert!(next.is_none_or(|next| next > self.now));
        self.take(items);
        // What was handed on is not handed on once more.
        prop_assert_eq!(self.debounce.due(self.now), vec![]);
        prop_assert!(self.updates <= self.causes, "{} of {}", self.updates, self.causes);
        Ok(())
    }

    fn take(&mut self, items: Vec<Item>) {
        for item in items {
            match item {
                Item::Change(change) => {
                    self.updates += usize::from(matches!(change.kind, ChangeKind::Update { .. }));
                    self.waiting.push_back(change);
                }
                Item::Burst(burst) => self.waiting.extend(burst),
            }
        }
    }

    /// Does on the target what one change asks for, by what the source holds by now.
    fn apply_one(&mut self) {
        let Some(change) = self.waiting.pop_front() else { return };
        match change.kind {
            ChangeKind::Update { path, scope } => self.update(path, scope, change.age.since),
            ChangeKind::Rename { from, to, .. } => {
                if self.target.0.contains_key(&from) {
                    if let Some(parent) = to.parent() {
                        self.target.need_dir(&parent);
                    }
                    self.target.rename(&from, &to);
                }
                self.repair(&to);
            }
            ChangeKind::Delete { path, .. } => {
                if !self.source.0.contains_key(&path) {
                    self.target.remove(&path);
                }
            }
            ChangeKind::Name { .. } => {}
            ChangeKind::Rescan { path, .. } => self.repair(&path),
        }
    }

    fn update(&mut self, at: RelPath, scope: Extent, since: Instant) {
        let Some(node) = self.source.0.get(&at).copied() else {
            self.causes += 1;
            return self.debounce.gone(&at, None, self.now);
        };
        if let (Extent::Attributes, Node::File { attrs, .. }, Some(Node::File { attrs: old, .. })) =
            (scope, node, self.target.0.get_mut(&at))
        {
            *old = attrs;
            return;
        }
        if let Node::File { content, .. } = node {
            // Some files are large and open, and some cannot be read with certainty at first.
            if content % 4 == 0 && self.now.duration_since(since) < self.options.max_open {
                self.causes += 1;
                return self.debounce.still_open(&at, Age::believed(self.now));
            }
            if content % 4 == 1 && self.uncertain.insert(content) {
                self.causes += 1;
                let age = Age::believed(self.now);
                self.debounce.again(&at, self.now, Duration::from_millis(200), (age, false));
                return;
            }
        }
        self.target.put(&at, node);
    }

    fn repair(&mut self, top: &RelPath) {
        self.target.remove(top);
        for at in self.source.within(top) {
            let node = self.source.0.get(&at).copied().unwrap_or(Node::Dir);
            self.target.put(&at, node);
        }
    }

    /// Lets time pass until nothing is held and nothing waits.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..10_000 {
            self.turn()?;
            while !self.waiting.is_empty() {
                self.apply_one();
            }
            match self.debounce.deadline() {
                Some(next) => self.now = self.now.max(next),
                None => {
                    prop_assert_eq!(self.debounce.pending(), (0, None));
                    return Ok(());
                }
            }
        }
        Err(TestCaseError::fail("never idle"))
    }
}

fn converges(options: Options, deeds: Vec<Deed>) -> Result<(), TestCaseError> {
    let mut world = World::new(options);
    for deed in deeds {
        world.does(deed)?;
    }
    world.settle()?;
    prop_assert_eq!(&world.target, &world.source);
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_done_the_target_becomes_the_source(deeds in collection::vec(any_deed(), 1..60)) {
        converges(options(), deeds)?;
    }

    #[test]
    fn it_does_with_hardly_any_memory(deeds in collection::vec(any_deed(), 1..60), paths_max in 1_usize..4) {
        converges(Options { paths_max, ..options() }, deeds)?;
    }
}
