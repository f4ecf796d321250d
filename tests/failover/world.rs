//! The hosts and what is between them, small enough to keep millions of states.

use std::collections::HashMap;

use speil::role::{Generation, HostName, Id, Record, Role, Starts, Tree, TreeId};

use crate::mutants::Mutant;

pub const HOSTS: usize = 3;
pub const NAMES: [&str; HOSTS] = ["oslo", "bergen", "tromso"];
/// Most generations of a history.
pub const GENERATIONS_MAX: usize = 8;
/// Nobody.
pub const NONE: u8 = 3;

/// A record's number in the pool.
pub type Kept = u32;
/// There is no record.
pub const PLAIN: Kept = 0;
/// There is one that nobody can read.
pub const UNREADABLE: Kept = 1;

/// What a promotion is about to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// No promotion runs.
    Idle,
    /// It was checked and intended.
    Checked,
    /// The identity of the coming generation is on the disk.
    Prepared,
    /// The agent is gone and the lock is held.
    Locked,
}

/// How a session changes a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Today,
    Follow,
    Adopt(speil::role::Why),
}

/// One host. Contents are sets of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Host {
    pub up: bool,
    /// A sync with `target` filled the tree.
    pub ours: bool,
    pub place: u8,
    pub record: Kept,
    pub disk: Disk,
    /// The last verb: 0 none, 1 promote, 2 demote; its ticket; whether it is done.
    pub intent: (u8, u8, bool),
    pub stage: Stage,
    /// Of the promotion that runs.
    pub ticket: u8,
    pub force: u8,
    /// Who sends, and how.
    pub from: u8,
    pub mode: Mode,
    /// It was in step with that one at some moment of the session.
    pub stepped: bool,
    pub confirmed: bool,
    pub ghost: Ghost,
}

/// What a disk holds besides the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    pub tree: u8,
    /// What the agent wrote.
    pub own: u8,
    pub aside: u8,
    /// What a power cut cannot take away.
    pub flushed: u8,
    /// An adoption has changed something and has not ended. What really is, not what the record says.
    pub half: bool,
}

/// What really happened, whatever a host remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ghost {
    /// Generations that were heard of; one bit each.
    pub heard: u8,
    /// It has exchanged generations since the boot.
    pub talked: bool,
    /// The last verb that was given was `demote`.
    pub demoted: bool,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub hosts: [Host; HOSTS],
    /// Cut links, one bit each.
    pub cut: u8,
    /// The ancestors of each generation; one bit each.
    pub ancestors: [u8; GENERATIONS_MAX],
    pub generations: u8,
    pub uploads: u8,
    /// Uploads that must not be lost.
    pub owed: u8,
    pub starts: u8,
    /// A disk was lost, set back or copied.
    pub disk_fault: bool,
    pub snapshot: Option<(u8, Kept, Disk)>,
    /// What may still happen, by class.
    pub budget: [u8; crate::events::CLASSES],
}

/// The records of all states, each of them once.
pub struct Pool {
    records: Vec<Record>,
    numbers: HashMap<Record, Kept>,
    pub mutant: Option<Mutant>,
    /// The host that has `mayLead = false` in the others' configuration, and no key to them.
    pub barred: Option<usize>,
}

impl Pool {
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { records: Vec::new(), numbers: HashMap::new(), mutant, barred: None }
    }

    /// Returns the same where a host may not lead.
    pub fn barring(host: usize) -> Self {
        Self { barred: Some(host), ..Self::new(None) }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn keep(&mut self, record: Record) -> Kept {
        if let Some(number) = self.numbers.get(&record) {
            return *number;
        }
        let number = u32::try_from(self.records.len()).unwrap_or(u32::MAX - 2) + 2;
        self.records.push(record.clone());
        self.numbers.insert(record, number);
        number
    }

    pub fn get(&self, number: Kept) -> Option<&Record> {
        self.records.get((number as usize).checked_sub(2)?)
    }

    /// Returns the tree of a host as the product sees it.
    pub fn tree(&self, host: usize, state: &State) -> Tree<'_> {
        let h = &state.hosts[host];
        if h.record == UNREADABLE {
            return Tree::Unreadable;
        }
        let mut place = place(host, h.place);
        let record = self.get(h.record);
        if self.is(Mutant::PlaceIgnored) {
            place = record.map_or(place, |record| record.place);
        }
        Tree::of(record, &place, h.ours)
    }

    /// Returns what a host may send, if it may send now.
    pub fn leads(&self, host: usize, state: &State) -> Option<&Record> {
        let tree = self.tree(host, state);
        match tree {
            Tree::Placed(record) if self.is(Mutant::SupersededSends) && record.role == Role::Primary => {
                Some(record)
            }
            _ => tree.leads(),
        }
    }

    /// Returns the generation of a tree that stands in its place.
    pub fn generation(&self, host: usize, state: &State) -> Option<&Generation> {
        match self.tree(host, state) {
            Tree::Placed(record) => record.generation.as_ref(),
            _ => None,
        }
    }
}

pub fn id(class: u8, number: u8) -> Id {
    let mut bytes = [0; 16];
    bytes[0] = class;
    bytes[15] = number;
    Id::from_bytes(bytes)
}

/// Returns the identity of the generation with a number of the model.
pub fn generation_id(number: u8) -> Id {
    id(1, number)
}

/// Returns the number of a generation.
pub fn number_of(id: Id) -> u8 {
    (0..16).find(|number| generation_id(*number) == id).unwrap_or(15)
}

pub fn place(host: usize, number: u8) -> TreeId {
    TreeId { machine: id(2, host as u8), inode: number.into(), born: None }
}

pub fn name(host: usize) -> HostName {
    HostName::new(NAMES[host])
}

pub fn host_of(name: &HostName) -> Option<usize> {
    NAMES.iter().position(|known| *known == name.to_string())
}

pub fn link(a: usize, b: usize) -> u8 {
    match (a.min(b), a.max(b)) {
        (0, 1) => 1,
        (0, 2) => 2,
        _ => 4,
    }
}

impl Host {
    pub fn copies(&self) -> u8 {
        self.disk.tree | self.disk.aside
    }

    pub fn end_session(&mut self) {
        self.from = NONE;
        self.mode = Mode::Today;
        self.stepped = false;
    }
}

impl State {
    /// The first host leads the first generation, the others follow; or nobody has a role yet.
    pub fn first(pool: &mut Pool, with_roles: bool, budget: [u8; crate::events::CLASSES]) -> Self {
        let host = |number: usize, record, heard| Host {
            up: true,
            ours: number != 0,
            place: 0,
            record,
            disk: Disk::default(),
            intent: (0, 0, true),
            stage: Stage::Idle,
            ticket: 0,
            force: 0,
            from: NONE,
            mode: Mode::Today,
            stepped: false,
            confirmed: true,
            ghost: Ghost { heard, talked: true, demoted: false },
        };
        let mut hosts = [0, 1, 2].map(|number| host(number, PLAIN, 0));
        if with_roles {
            let generation = Generation::new(1, generation_id(0), Vec::new());
            for (number, one) in hosts.iter_mut().enumerate() {
                let seen = (number != 0).then(|| id(3, 0));
                let starts = Starts { running: Some(id(3, number as u8)), ended: Vec::new(), seen };
                let record = Record {
                    role: if number == 0 { Role::Primary } else { Role::Standby },
                    generation: Some(generation.clone()),
                    group: Some(id(4, 0)),
                    heard: 1,
                    starts,
                    ..Record::joined(place(number, 0))
                };
                *one = host(number, pool.keep(record), 1);
            }
        }
        Self {
            hosts,
            cut: 0,
            ancestors: [0; GENERATIONS_MAX],
            generations: u8::from(with_roles),
            uploads: 0,
            owed: 0,
            starts: 3,
            disk_fault: false,
            snapshot: None,
            budget,
        }
    }

    pub fn reaches(&self, a: usize, b: usize) -> bool {
        a != b && self.hosts[a].up && self.hosts[b].up && self.cut & link(a, b) == 0
    }

    /// Whether the way out may need force: a disk has failed, or some host was never in step. A tree without a role may
    /// be the mount point of a volume that holds the truth, and so its word counts for nothing.
    pub fn may_need_force(&self, pool: &Pool) -> bool {
        self.disk_fault || (0..HOSTS).any(|h| pool.generation(h, self).is_none())
    }

    /// Ends the sessions that a host leads.
    pub fn end_sessions_of(&mut self, host: usize) {
        for other in &mut self.hosts {
            if usize::from(other.from) == host {
                other.end_session();
            }
        }
    }

    /// Whether one generation is in another's history.
    pub fn is_before(&self, a: u8, b: u8) -> bool {
        self.ancestors[usize::from(b)] >> a & 1 == 1
    }

    /// A host's disk changes by a fault: what only it held is owed no more.
    pub fn disk_fault(&mut self, host: usize, disk: Disk) {
        self.hosts[host].disk = disk;
        let all = self.hosts.iter().fold(0, |all, host| all | host.copies());
        self.owed &= all;
        self.disk_fault = true;
    }
}
