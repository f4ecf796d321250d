//! Whether the source's tree may send, by its role.
//!
//! **In → Out:** a source directory; that it has no role and sends as ever, what a primary says of itself, or why
//! nothing is sent. **Invariants:** a tree with a role sends only while it leads; what a target tells of other
//! generations is on the disk before anything is sent to it.
//! **Not here:** the rules (`role`), the file (`role_file`); how a tree comes to its role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::cuts::{Notes, held, look_at_clock};
use super::error::SessionError;
use super::origin::upstream;
use super::positions::Positions;
use crate::config::{Hosts, Sync, Target};
use crate::disk::{Root, host_name};
use crate::protocol::{ReplyHello, RoleTold, UpTo};
use crate::role::{
    Answered, Generation, HeardOf, Here, HostName, Id, Record, Refusal, Role, Tree, TreeId, fitness, hear,
    is_past, tells,
};
use crate::role_file::{RoleFile, RoleFileError, clock};
use crate::scan::Doubt;
use crate::tree::Time;

/// Why a session ends that goes on at once in another way.
const CHANGED: &str = "the role of the source has changed";

/// What one start of a sync may send. The links to all targets share it.
#[derive(Debug)]
pub struct Lead {
    /// `None`: roles do not count, as for a single file.
    source: Option<PathBuf>,
    /// The start: a receiver tells by it whether the source holds all that it took before.
    start: Id,
    /// What the configuration says of this host, where it names all that hold the tree.
    among: Option<Among>,
    /// What others have told of their trees while this one has no role, by target.
    beside: Mutex<BTreeMap<String, Answered>>,
    /// Somebody has sent.
    begun: Mutex<bool>,
    /// What is to be noted of what others hold.
    pub(super) notes: Notes,
    /// When this host has handed over last.
    pub(super) handed: Mutex<Option<Instant>>,
    /// Marks of the source that somebody has asked for.
    positions: Positions,
}

/// One host of several.
#[derive(Debug)]
struct Among {
    /// What the sync is called.
    sync: String,
    hosts: Hosts,
}

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// It has no role.
    Plain,
    /// It leads, and says this of itself.
    Leads(RoleTold),
    /// It has a role, and sends nothing.
    Waits {
        /// What it tells others of itself; `None` if nobody can read that.
        told: Option<RoleTold>,
        /// Why, in one line.
        line: String,
        /// What may be typed on this host; empty if nothing need be.
        hint: String,
        /// It is a standby.
        standby: bool,
        /// It is one as it should be: nothing is in the way of its promotion but that nobody has answered.
        well: bool,
        /// Another host has answered since the boot.
        confirmed: bool,
        /// It has no role yet.
        plain: bool,
    },
}

impl Lead {
    /// Begins to watch over the role of a source.
    pub fn of(source: &Path) -> Self {
        let mut start = [0; 16];
        let _ = rustix::rand::getrandom(&mut start, rustix::rand::GetRandomFlags::empty());
        look_at_clock(source);
        let start = Id::from_bytes(start);
        let (source, among) = (Some(source.to_owned()), None);
        Self {
            source,
            start,
            among,
            beside: Mutex::default(),
            begun: Mutex::new(false),
            notes: Notes::default(),
            handed: Mutex::default(),
            positions: Positions::default(),
        }
    }

    /// Begins to watch over the role of a sync's source.
    pub fn of_sync(sync: &Sync) -> Self {
        let among = sync.hosts.clone().map(|hosts| Among { sync: sync.name.clone(), hosts });
        Self { among, ..Self::of(&sync.source) }
    }

    /// Returns one for a session to which roles mean nothing.
    pub fn plain() -> Self {
        let start = Id::from_bytes([0; 16]);
        Self {
            source: None,
            start,
            among: None,
            beside: Mutex::default(),
            begun: Mutex::new(false),
            notes: Notes::default(),
            handed: Mutex::default(),
            positions: Positions::default(),
        }
    }

    /// Returns the marks that were asked for.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Returns the source, if roles count.
    pub(super) fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Returns which start this is.
    pub(super) fn start(&self) -> Id {
        self.start
    }

    /// Returns how the source stands now.
    pub fn stand(&self) -> Stand {
        match self.look() {
            Ok(stand) => stand,
            Err(error) => Stand::Waits {
                told: None,
                line: format!("nothing is sent: {error}"),
                hint: self.hint(&Refusal::Unfit(crate::role::Unfit::Unreadable)),
                standby: false,
                well: false,
                confirmed: false,
                plain: false,
            },
        }
    }

    /// Whether the configuration lets this host lead.
    fn may_lead(&self) -> bool {
        self.among.as_ref().is_none_or(|among| among.hosts.may_lead)
    }

    /// Returns how a source without a role stands: as ever, unless its hosts are named. Then it may be the empty mount
    /// point of a volume that is missing, and must not be what the others are made equal to.
    fn without_role(&self) -> Stand {
        let Some(Among { sync, hosts }) = &self.among else { return Stand::Plain };
        let joins = format!("nothing comes here until `speil demote {sync}` is typed, once");
        let look = "first look whether the volume is mounted";
        let (line, hint) = match (self.led_beside(), hosts.may_lead) {
            (Some(beside), _) => (format!("no role yet, and {beside}: {joins}"), look.to_owned()),
            (None, false) => (format!("no role yet: {joins}"), look.to_owned()),
            (None, true) => (
                format!(
                    "no role yet: nothing is sent until `speil promote {sync}` is typed on the host that holds the truth"
                ),
                format!(
                    "if that is this host, type it here, and `speil demote {sync}` on each other one; if another host \
                     leads, `speil demote {sync}` here, but {look}"
                ),
            ),
        };
        // Whoever holds no key to the others asks nobody.
        let told = hosts.may_lead.then(of_nobody);
        let (standby, well, confirmed) = (false, false, false);
        Stand::Waits { told, line, hint, standby, well, confirmed, plain: true }
    }

    /// Takes in what the host of a target tells while this source has no role.
    pub fn beside(&self, told: Option<&RoleTold>, from: &Target) {
        let answered = told.and_then(|told| {
            let record = Record::from_text(told.record.as_bytes()).ok().filter(|record| record.n() > 0)?;
            Some(Answered { host: HostName::new(&told.host), record })
        });
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Some(answered) => beside.insert(from.name.clone(), answered),
            None => beside.remove(&from.name),
        };
    }

    /// Whether another host has told that it leads, while this source has no role.
    pub fn knows_a_leader(&self) -> bool {
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.values().any(|other| other.leads().is_some())
    }

    /// Says who leads, or what another host holds, as far as that was told.
    fn led_beside(&self) -> Option<String> {
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let leads = beside.values().find(|other| other.leads().is_some());
        let (other, is) = match leads {
            Some(other) => (other, "leads"),
            None => (beside.values().next()?, "is at"),
        };
        Some(format!("{} {is} generation {}", other.host, other.record.n()))
    }

    fn look(&self) -> Result<Stand, RoleFileError> {
        let Some(file) = self.file()? else { return Ok(self.without_role()) };
        let Some(record) = file.read()? else { return Ok(self.without_role()) };
        let place = file.place()?;
        let told = Some(telling(&record)).filter(|_| self.may_lead());
        let confirmed = file.is_confirmed();
        let tree = Tree::of(Some(&record), &place, false);
        if let Some(leads) = tree.leads() {
            return Ok(match &self.among {
                Some(Among { sync, hosts }) if !hosts.may_lead => barred(leads, sync, hosts),
                _ => Stand::Leads(telling(leads)),
            });
        }
        let unfit = fitness(tree, true).err();
        let well = unfit.is_none();
        let standby = well || (matches!(tree, Tree::Placed(_)) && record.role == Role::Standby);
        let (line, hint) = match unfit {
            None => (format!("standby at generation {}: it sends nothing", record.n()), String::new()),
            Some(unfit) => {
                let refusal = Refusal::Unfit(unfit);
                // A standby that waits for its primary needs nobody; what may be typed `speil promote` says.
                let hint = if standby { String::new() } else { self.hint(&refusal) };
                let says_so = refusal.to_string().contains("nothing is sent");
                let line = refusal.to_string() + if says_so { "" } else { "; nothing is sent" };
                (line, hint)
            }
        };
        Ok(Stand::Waits { told, line, hint, standby, well, confirmed, plain: false })
    }

    /// Returns the generation that the source leads; `None` if it leads none.
    pub fn leads(&self) -> Option<Id> {
        if !self.may_lead() {
            return None;
        }
        let file = self.file().ok()??;
        let (record, place) = (file.read().ok()?, file.place().ok()?);
        Tree::of(record.as_ref(), &place, false).leads()?.generation.as_ref().map(Generation::id)
    }

    /// Returns what people call the tree whose changes come here now; `None` if none do.
    pub fn led_by(&self) -> Option<String> {
        let holder = upstream(self.source.as_ref()?)?;
        holder.chain.last().map(|tree| tree.name.clone()).filter(|name| !name.is_empty())
    }

    /// Returns the role of the source and the number of its generation; `None` if it has no role, or nobody can
    /// read it.
    pub fn role(&self) -> Option<(Role, Option<u64>)> {
        let record = self.file().ok()??.read().ok()??;
        Some((record.role, record.generation.as_ref().map(Generation::n)))
    }

    /// Begins to send: from now on the tree may hold what a power cut takes away again. Returns what the primary says
    /// of itself.
    ///
    /// # Errors
    /// [`SessionError::Role`] if it does not lead, or that cannot be written.
    pub fn begin(&self) -> Result<Option<RoleTold>, SessionError> {
        match self.stand() {
            Stand::Plain => return Ok(None),
            Stand::Waits { line, hint, .. } => return Err(SessionError::Role { line, hint }),
            Stand::Leads(_) => {}
        }
        let started = || -> Result<Option<Record>, RoleFileError> {
            let Some(file) = self.file()? else { return Ok(None) };
            let place = file.place()?;
            let begins = |old: &Record| Record { starts: old.starts.started(self.start), ..old.clone() };
            file.update(|old| {
                let old = Tree::of(old.ok()?, &place, false).leads()?;
                (old.starts.running != Some(self.start)).then(|| begins(old))
            })
        };
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = true;
        match started() {
            Ok(record) => Ok(record.as_ref().map(|record| RoleTold { held: self.held(), ..telling(record) })),
            Err(error) => {
                let hint = match &error {
                    // The unit in the packages lets the daemon read the source alone.
                    RoleFileError::Io { error, .. } if error.raw_os_error() == Some(libc::EROFS) => {
                        "a daemon that systemd started needs the drop-in contrib/failover.conf: see speil help \
                         failover"
                    }
                    _ => "look at the filesystem of the source, and at who owns .speil in it",
                };
                let hint = hint.to_owned();
                Err(SessionError::Role { line: format!("nothing is sent: {error}"), hint })
            }
        }
    }

    /// Takes in what the host of a target tells. The word of one that may not lead does not count, unless it says that
    /// it knows of nothing else than this tree.
    ///
    /// # Errors
    /// [`SessionError::Role`] if that cannot be kept, or makes no sense, or does not count though it tells of something
    /// younger: then nothing may be sent to that target.
    pub fn hear(&self, told: &RoleTold, from: &Target) -> Result<(), SessionError> {
        let fail = |line: String| SessionError::Role { line, hint: String::new() };
        let record = Record::from_text(told.record.as_bytes())
            .map_err(|error| fail(format!("the target tells of a role that makes no sense: {error}")))?;
        let host = HostName::new(&told.host);
        let told = tells(&record, &host);
        if !from.may_lead {
            return self.hear_a_follower(&told, from);
        }
        let write = || -> Result<(), RoleFileError> {
            let Some(file) = self.file()? else { return Ok(()) };
            let heard = file.update(|old| hear(old.ok()??, &told))?;
            if heard.is_some() && !told.is_empty() {
                file.confirm()?;
            }
            if let Some(own) = &heard {
                // Without it `speil health` says nothing of a second primary; nothing is lost by that.
                let _ = file.met(own, &host, &record);
            }
            Ok(())
        };
        write().map_err(|error| fail(format!("nothing is sent: {error}")))
    }

    fn hear_a_follower(&self, told: &[HeardOf], from: &Target) -> Result<(), SessionError> {
        let Ok(Some(file)) = self.file() else { return Ok(()) };
        let Ok(Some(own)) = file.read() else { return Ok(()) };
        let is_younger =
            |heard: &&HeardOf| own.generation.as_ref().is_some_and(|it| it.is_before(&heard.generation));
        if let Some(younger) = told.iter().find(is_younger) {
            let (name, theirs, n, path) = (&from.name, younger.generation.n(), own.n(), shown_path(from));
            return Err(SessionError::Role {
                line: format!(
                    "{name} says that generation {theirs} came after this tree's {n}; its entry in hosts has mayLead = \
                     false, so its word does not count here"
                ),
                hint: format!(
                    "look whether another host leads that one; if none does, `rm {path}/.speil/role && speil demote \
                     --root {path}` on {name} joins its tree anew, and what only it holds is kept aside"
                ),
            });
        }
        if is_past(&own, told) {
            // Without it the host stays unconfirmed, which is safe.
            let _ = file.confirm();
        }
        Ok(())
    }

    /// Ends in order, if the filesystem of the source could be flushed: a target holds what only this host's memory
    /// held, and a power cut after the end would take it away unnoticed.
    pub fn end(&self) {
        if !std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let Some(source) = &self.source else { return };
        let Ok(root) = Root::open(source) else { return };
        if rustix::fs::syncfs(&root).is_err() {
            return;
        }
        let Ok(Some(file)) = RoleFile::open(&root) else { return };
        // If it cannot be written, the next start is taken for one after a crash: what differs is kept aside.
        if let Some((cut, shown)) = self.notes.take() {
            let _ = file.note_cut(cut, shown);
        }
        let _ = file.update(|old| {
            let old = old.ok()?.filter(|old| old.starts.running == Some(self.start))?;
            Some(Record { starts: old.starts.stopped(), ..old.clone() })
        });
    }

    fn held(&self) -> Vec<UpTo> {
        self.file().ok().flatten().map(|file| held(&file)).unwrap_or_default()
    }

    /// Returns what may differ here from a tree that holds everything up to a cut, or is not known to hold anything.
    fn apart(&self, cut: Option<UpTo>) -> Doubt {
        let cut = cut.map(|(of, until)| (Id::from_bytes(of), until));
        let cuts = self.file().ok().flatten().map(|file| file.cuts()).unwrap_or_default();
        // What the target says it holds is no more than what is known here.
        let cut = cut.and_then(|cut| cuts.common(&[cut]));
        let since = cut.and_then(|cut| cuts.doubtful(cut, clock()));
        Doubt::apart(since.map(|secs| Time { secs, nanos: 0 }))
    }

    /// Returns what changes when the record is written.
    pub fn stamp(&self) -> Option<(u64, i64, u32)> {
        use std::os::unix::fs::MetadataExt;
        let path = self.source.as_ref()?.join(".speil/role");
        let found = path.symlink_metadata().ok()?;
        Some((found.ino(), found.ctime(), u32::try_from(found.ctime_nsec()).unwrap_or(0)))
    }

    pub(super) fn file(&self) -> Result<Option<RoleFile>, RoleFileError> {
        let Some(source) = &self.source else { return Ok(None) };
        // A source that cannot be opened is told of by whoever reads it.
        let Ok(root) = Root::open(source) else { return Ok(None) };
        RoleFile::open(&root)
    }

    fn hint(&self, refusal: &Refusal) -> String {
        let source = self.source.as_deref().unwrap_or(Path::new("")).display().to_string();
        refusal.told().hint(&Here::root(&source)).unwrap_or_default()
    }
}

/// Returns what a host says whose tree has no role: it knows of no generation.
pub fn of_nobody() -> RoleTold {
    let place = TreeId { machine: Id::from_bytes([0; 16]), inode: 0, born: None };
    RoleTold { host: String::new(), record: Record::joined(place).to_text(), held: Vec::new() }
}

/// Returns how a primary stands that the configuration does not let lead.
fn barred(record: &Record, sync: &str, hosts: &Hosts) -> Stand {
    let (here, n) = (&hosts.here, record.n());
    Stand::Waits {
        told: None,
        line: format!("primary of generation {n}, but {here} has mayLead = false in hosts; nothing is sent"),
        hint: format!(
            "`speil demote {sync}` here makes it a standby; if it is to lead, remove mayLead = false on every host, and \
             speil reload"
        ),
        standby: false,
        well: false,
        confirmed: false,
        plain: false,
    }
}

/// Returns the directory of a target as a shell takes it.
fn shown_path(target: &Target) -> String {
    let root = Here::root(&String::from_utf8_lossy(&target.path)).tree;
    root.trim_start_matches("--root ").to_owned()
}

fn telling(record: &Record) -> RoleTold {
    RoleTold { host: HostName::new(&host_name()).to_string(), record: record.to_text(), held: Vec::new() }
}

/// How one session sends.
#[derive(Debug)]
pub(super) struct Leading {
    pub lead: Arc<Lead>,
    /// As a primary of this generation.
    pub led: Option<Id>,
    /// The target keeps everything that it loses.
    adopts: AtomicBool,
    /// What may differ from the target's though it looks alike, while it does.
    pub apart: Doubt,
    stamp: Mutex<Option<(u64, i64, u32)>>,
}

impl Leading {
    /// Takes in how a target has answered. Returns why nothing may be sent to it, after all.
    pub fn new(
        lead: &Arc<Lead>,
        led: bool,
        reply: &ReplyHello,
        target: &Target,
    ) -> Result<Self, SessionError> {
        let stamp = Mutex::new(lead.stamp());
        let answer = reply.role.as_ref().filter(|_| led);
        if led && answer.is_none() {
            let line = format!("the agent is speil {:?} and knows no roles", reply.program);
            return Err(SessionError::Role { line, hint: "upgrade speil on the target".to_owned() });
        }
        if let Some(told) = answer.and_then(|answer| answer.told.as_ref()) {
            match lead.hear(told, target) {
                // It takes what is sent, whatever else it has heard of.
                Err(_) if !target.may_lead => {}
                heard => heard?,
            }
        }
        let adopts = AtomicBool::new(answer.is_some_and(|answer| answer.adopts));
        let apart = lead.apart(answer.and_then(|answer| answer.cut));
        let led_now = lead.leads().filter(|_| led);
        let this = Self { lead: Arc::clone(lead), led: led_now, adopts, apart, stamp };
        if this.led.is_none() && led {
            return Err(SessionError::Role { line: CHANGED.to_owned(), hint: String::new() });
        }
        this.judge()?;
        Ok(this)
    }

    /// Whether nothing that the target loses is destroyed: then no delete is held.
    pub fn adopts(&self) -> bool {
        self.adopts.load(Ordering::Acquire)
    }

    /// Takes in that the target is in step: from now on it loses what the source loses.
    pub fn in_step(&self) {
        self.adopts.store(false, Ordering::Release);
    }

    /// Says that the source may still send as it did when the session began.
    ///
    /// # Errors
    /// [`SessionError::Role`] if not.
    pub fn still(&self) -> Result<(), SessionError> {
        let now = self.lead.stamp();
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != now {
            *known = now;
            drop(known);
            self.judge()?;
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), SessionError> {
        match (self.lead.stand(), self.led) {
            (Stand::Plain, None) => Ok(()),
            (Stand::Leads(_), led) if led.is_some() && self.lead.leads() == led => Ok(()),
            (Stand::Waits { line, hint, .. }, _) => Err(SessionError::Role { line, hint }),
            (Stand::Leads(_) | Stand::Plain, _) => {
                Err(SessionError::Role { line: CHANGED.to_owned(), hint: String::new() })
            }
        }
    }
}
