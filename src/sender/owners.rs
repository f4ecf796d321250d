//! How a source entry is to look on a target: changed modes, and owners as the target numbers them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::SessionError;
use super::own_names;
use crate::protocol::{OwnerNames, Owners};
use crate::scan::View;
use crate::tree::{Attrs, Chmod, FileId, Kind, Mask, Owner, OwnerMap, Owning, quote};

/// Longest wait for the target to say what an owner is there; then the number is taken.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Asks the receiver, by whatever way the session has.
pub(super) type Ask = Box<dyn Fn(OwnerNames) -> bool + Send + Sync>;

#[derive(Default)]
struct OwnerNumbers {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
    /// Asked for and not answered.
    open: usize,
    asked_users: HashSet<u32>,
    asked_groups: HashSet<u32>,
    closed: bool,
}

/// The view of the source that a target is compared with.
pub(super) struct TargetView {
    mask: Mask,
    chmod: Chmod,
    /// Owners of `--chown`, `--usermap` and `--groupmap`, as the target numbers them once it has said so.
    owning: Owning,
    numeric: bool,
    known: Mutex<OwnerNumbers>,
    answered: Condvar,
    ask: Ask,
    walked: AtomicU64,
    /// Files of which not all names were known when one of them was sent.
    sought: Mutex<Seeking>,
    seeks: AtomicBool,
}

/// Files that are sought, each with what it is sought for.
pub(super) type Seeking = HashMap<FileId, Sought>;

/// What a file is sought for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sought {
    /// Its content is owed as well as its names.
    pub reads: bool,
    /// Counts the demands: a walk answers those that were made before it.
    demand: u64,
}

/// Pairs whose owners can be told apart in questions to the target; owners with numbers as high keep them.
const PAIRS_MAX: usize = 255;

/// Returns what stands for the owner of a pair in questions to the target.
fn key(pair: usize) -> u32 {
    u32::MAX - u32::try_from(pair.min(PAIRS_MAX)).unwrap_or(0)
}

impl TargetView {
    pub fn new(mask: Mask, chmod: Chmod, owning: Owning, numeric: bool, ask: Ask) -> Self {
        Self {
            mask,
            chmod,
            owning,
            numeric,
            known: Mutex::default(),
            answered: Condvar::new(),
            ask,
            walked: AtomicU64::new(0),
            sought: Mutex::default(),
            seeks: AtomicBool::new(false),
        }
    }

    /// Takes an answer of the target.
    pub fn answer(&self, owners: &Owners) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.users.extend(owners.users.iter().copied());
        known.groups.extend(owners.groups.iter().copied());
        known.open = known.open.saturating_sub(1);
        self.answered.notify_all();
    }

    /// Ends all waiting: the connection is gone.
    pub fn close(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.answered.notify_all();
    }

    /// Returns how many entries the last walk has met so far.
    pub fn walked(&self) -> u64 {
        self.walked.load(Ordering::Relaxed)
    }

    /// Asks the target for the fixed owners that are given by name, and returns in words those that it lacks.
    ///
    /// # Errors
    /// [`SessionError::Silent`] if it does not answer. A connection that is gone is no error here.
    pub fn unknown_owners(&self) -> Result<Vec<String>, SessionError> {
        let ask = |map: &OwnerMap| -> Vec<(u32, String)> {
            map.names().map(|(at, name)| (key(at), name.to_owned())).collect()
        };
        let (users, groups) = (ask(&self.owning.users), ask(&self.owning.groups));
        if users.is_empty() && groups.is_empty() {
            return Ok(Vec::new());
        }
        let names = OwnerNames { users: users.clone(), groups: groups.clone() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
        if !(self.ask)(names) {
            return Ok(Vec::new());
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |known: &mut OwnerNumbers| known.open > 0 && !known.closed;
        let (known, timeout) = self
            .answered
            .wait_timeout_while(known, ANSWER_MAX, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(SessionError::Silent(ANSWER_MAX));
        }
        let lacks = |what: &str, asked: Vec<(u32, String)>, found: &HashMap<u32, u32>| {
            let lacking = asked.into_iter().filter(|(key, _)| !known.closed && !found.contains_key(key));
            lacking.map(|(_, name)| format!("{what} {}", quote(name.as_bytes()))).collect::<Vec<_>>()
        };
        let user = lacks("user", users, &known.users);
        Ok(user.into_iter().chain(lacks("group", groups, &known.groups)).collect())
    }

    /// Returns the name that an owner has here, where names are told.
    fn own_name(&self, id: u32, name: fn(u32) -> Option<String>) -> Option<String> {
        if self.numeric { None } else { name(id) }
    }

    fn user(&self, id: u32) -> u32 {
        match self.owning.users.find(id, || self.own_name(id, own_names::user)) {
            Some((_, Owner::Number(number))) => *number,
            Some((at, Owner::Name(name))) => self.resolve(key(at), true, || Some(name.clone())),
            None if self.numeric || !self.mask.owner || id >= key(PAIRS_MAX) => id,
            None => self.resolve(id, true, || own_names::user(id)),
        }
    }

    fn group(&self, id: u32) -> u32 {
        match self.owning.groups.find(id, || self.own_name(id, own_names::group)) {
            Some((_, Owner::Number(number))) => *number,
            Some((at, Owner::Name(name))) => self.resolve(key(at), false, || Some(name.clone())),
            None if self.numeric || !self.mask.group || id >= key(PAIRS_MAX) => id,
            None => self.resolve(id, false, || own_names::group(id)),
        }
    }

    /// Returns what the target calls an owner, asking it the first time. An owner without a name, here
    /// or there, keeps its number, as with rsync; root is root everywhere.
    fn resolve(&self, id: u32, user: bool, name: impl FnOnce() -> Option<String>) -> u32 {
        if id == 0 {
            return 0;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&found) = if user { known.users.get(&id) } else { known.groups.get(&id) } {
            return found;
        }
        let first = if user { known.asked_users.insert(id) } else { known.asked_groups.insert(id) };
        if first {
            // Until the target answers otherwise, the number is what it is.
            let Some(name) = name() else {
                if user {
                    known.users.insert(id, id)
                } else {
                    known.groups.insert(id, id)
                };
                return id;
            };
            known.open += 1;
            let (mut users, mut groups) = (Vec::new(), Vec::new());
            if user {
                users.push((id, name))
            } else {
                groups.push((id, name))
            };
            drop(known);
            if !(self.ask)(OwnerNames { users, groups }) {
                return id;
            }
            known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let waiting = |known: &mut OwnerNumbers| known.open > 0 && !known.closed;
        let (mut known, _) = self
            .answered
            .wait_timeout_while(known, ANSWER_MAX, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let map = if user { &mut known.users } else { &mut known.groups };
        *map.entry(id).or_insert(id)
    }
}

impl TargetView {
    fn sought(&self) -> MutexGuard<'_, Seeking> {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next walks tell every name of a file; `reads` if its content is owed as well.
    pub fn seek(&self, id: FileId, reads: bool) {
        let mut sought = self.sought();
        let file = sought.entry(id).or_insert(Sought { reads, demand: 0 });
        *file = Sought { reads: file.reads || reads, demand: file.demand + 1 };
        self.seeks.store(true, Ordering::Release);
    }

    /// Returns the files that are sought now.
    pub fn seeking(&self) -> Seeking {
        if self.seeks.load(Ordering::Acquire) { self.sought().clone() } else { Seeking::new() }
    }

    /// Takes in that a walk of everything, which began when `answered` were sought, has told their names.
    pub fn found(&self, answered: &Seeking) {
        let mut sought = self.sought();
        sought.retain(|id, file| answered.get(id) != Some(file));
        self.seeks.store(!sought.is_empty(), Ordering::Release);
    }
}

impl View for TargetView {
    fn seeks(&self, id: FileId) -> bool {
        self.seeks.load(Ordering::Acquire) && self.sought().contains_key(&id)
    }

    fn adjust(&self, attrs: &mut Attrs) {
        if !self.chmod.is_empty() && attrs.meta.kind != Kind::Symlink {
            attrs.meta.mode = self.chmod.apply(attrs.meta.mode, attrs.meta.kind == Kind::Dir);
            // The mode's bits and the ACL's own entries are one value.
            attrs.xattrs.iter_mut().for_each(|xattr| xattr.set_acl_mode(attrs.meta.mode));
        }
        if self.mask.owner || !self.owning.users.is_empty() {
            attrs.meta.uid = self.user(attrs.meta.uid);
        }
        if self.mask.group || !self.owning.groups.is_empty() {
            attrs.meta.gid = self.group(attrs.meta.gid);
        }
    }

    fn progress(&self, entries: u64) -> bool {
        self.walked.store(entries, Ordering::Relaxed);
        true
    }
}
