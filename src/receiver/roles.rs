//! What the role of a tree lets a session do, and what the session must write for it.
//!
//! **In → Out:** a root, a hello; who may change the tree and how, or a refusal that says what to type.
//! **Invariants:** what the sender tells of other generations is on the disk before anything is decided; what the
//! record must say during the session is there before its first change; a tree that nobody has given a role, and
//! a sender that has none, are as they always were.
//! **Not here:** the rules (`role`), the file (`role_file`).

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::handing::Asking;
use super::own::Own;
use super::place::shown;
use crate::config::Durability;
use crate::disk::Root;
use crate::protocol::{Cut, Errand, Handing, Hello, Refusal, RoleAnswer, RoleTold, UpTo, VERSION_ROLES};
use crate::role::{
    self, Admission, Command, Cuts, Here, HostName, Id, Offer, Record, Remedy, Sender, Tree, TreeId, Why,
    admit, begin, finish, hear, tells,
};
use crate::role_file::{RoleFile, RoleFileError, clock};
use crate::scan::Doubt;
use crate::tree::{Entry, Time};

/// A root whose role is asked for.
pub(super) struct Asked<'a> {
    pub root: &'a Root,
    pub path: &'a Path,
    /// Where what is remembered of the tree is kept.
    pub memory: &'a Path,
    pub hello: &'a Hello,
    /// The tree carries the mirror's identity.
    pub ours: bool,
}

/// What a session may do, as far as roles say it.
#[derive(Default)]
pub(super) struct Granted {
    /// A primary sends.
    pub led: Option<Led>,
    /// What is answered to a sender that tells of a role.
    pub answer: Option<RoleAnswer>,
}

/// The session of a primary.
pub(super) struct Led {
    file: RoleFile,
    place: TreeId,
    offer: Offer,
    /// What is doubted until the tree is in step.
    doubt: Option<Doubt>,
    asking: Arc<Asking>,
    /// What is acknowledged is on the disk.
    durable: bool,
}

/// What a sender tells.
struct Teller {
    record: Record,
    host: HostName,
}

impl Asked<'_> {
    /// Takes in what the sender tells, and refuses who may not do what it came for. Changes nothing else, and
    /// needs no lock.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn look(&self) -> Result<Granted, Refusal> {
        let teller = self.teller()?;
        let file = match RoleFile::open(self.root.as_fd()) {
            Ok(None) if teller.is_none() => return Ok(Granted::default()),
            Ok(None) => return self.judge(None, Ok(None), teller.as_ref()),
            Ok(Some(file)) => file,
            // What is in the place of the state directory, or one that is not trusted, holds no role.
            Err(_) if teller.is_none() && holds_none(self.root) => return Ok(Granted::default()),
            Err(error) => return self.judge(None, Err(&error), teller.as_ref()),
        };
        let read = match &teller {
            Some(teller) => self.hear(&file, teller),
            None => file.read(),
        };
        let place = file.place().map_err(|error| self.failed(&error))?;
        self.judge(Some(&place), read.as_ref().map(Option::as_ref), teller.as_ref())
    }

    /// The same with the root's lock held, and writes what must be on the disk before the first change.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn take(&self) -> Result<Granted, Refusal> {
        let mut granted = self.look()?;
        let file = match RoleFile::open(self.root.as_fd()).map_err(|error| self.failed(&error)) {
            Ok(Some(file)) => file,
            // It was judged as one that nobody can read: whoever was let in changes nothing.
            Ok(None) | Err(_) if granted.answer.is_none() || self.errand() != role::Errand::Change => {
                return Ok(granted);
            }
            Ok(None) => return Err(self.refused(&role::Refusal::NotJoined, None)),
            Err(refusal) => return Err(refusal),
        };
        if !self.hello.dry_run && file.is_promoting().map_err(|error| self.failed(&error))? {
            let line = "the tree is just being promoted".to_owned();
            return Err(self.told(line, String::new(), None));
        }
        let teller = self.teller()?;
        let offer = teller.as_ref().and_then(|teller| Offer::of(&teller.record, &teller.host));
        let Some(offer) = offer.filter(|_| self.errand() == role::Errand::Change) else { return Ok(granted) };
        let place = file.place().map_err(|error| self.failed(&error))?;
        // Decided and written under one lock: a verb may have been typed since the look.
        let mut decided = None;
        let written = file.update(|old| {
            let tree = tree(old.ok()?, &place, self.ours);
            let admission = admit(tree, Sender::Led(&offer));
            let new = match admission {
                Ok(admission) => {
                    if adopts(admission) && Own::disown(self.root, self.memory).is_err() {
                        return None;
                    }
                    begin(tree, &place, &offer, admission)
                }
                Err(_) => None,
            };
            decided = Some(admission);
            new
        });
        let record = written.map_err(|error| self.failed(&error))?;
        let told = record.as_ref().map(|record| self.telling(record));
        match decided {
            Some(Ok(admission)) => {
                // A tree that had no record could not hear.
                let _ = file.confirm();
                // Were it not forgotten, the promotion after this primary's death would be taken for a planned one.
                file.is_led().map_err(|error| self.failed(&error))?;
                let adopts = adopts(admission);
                let (cut, doubt) = if adopts { self.apart(&file, admission) } else { (None, None) };
                granted.answer = Some(RoleAnswer { told, adopts, cut });
                let durable = self.hello.durability != Durability::None;
                let asks = RoleFile::open(self.root.as_fd()).map_err(|error| self.failed(&error))?;
                let asks = asks.ok_or_else(|| self.refused(&role::Refusal::NotJoined, None))?;
                let asking = Asking::new(asks, offer.host.clone(), self.hello.version);
                granted.led = Some(Led { file, place, offer, doubt, asking, durable });
                Ok(granted)
            }
            Some(Err(why)) => Err(self.refused(&why, told)),
            None => {
                let line = "what the tree holds cannot be marked as worth keeping".to_owned();
                Err(self.told(line, "look at the filesystem of the tree".to_owned(), told))
            }
        }
    }

    /// Returns what the sender tells of its tree.
    fn teller(&self) -> Result<Option<Teller>, Refusal> {
        let Some(told) = &self.hello.role else { return Ok(None) };
        let record = Record::from_text(told.record.as_bytes());
        let record = record.map_err(|error| {
            self.told(format!("the sender tells of a role that makes no sense: {error}"), String::new(), None)
        })?;
        Ok(Some(Teller { record, host: HostName::new(&told.host) }))
    }

    /// Writes what the sender tells of generations, and that another host has answered.
    fn hear(&self, file: &RoleFile, teller: &Teller) -> Result<Option<Record>, RoleFileError> {
        let told = tells(&teller.record, &teller.host);
        let heard = file.update(|old| hear(old.ok()??, &told));
        if matches!(heard, Ok(Some(_))) && !told.is_empty() {
            // Without it the host stays unconfirmed, which is safe.
            let _ = file.confirm();
        }
        if let Ok(Some(own)) = &heard {
            let _ = file.met(own, &teller.host, &teller.record);
            let _ = file.stepped(own, &teller.record);
        }
        heard
    }

    /// Returns up to where this tree and the sender's held the same, and what may differ here since, by this host's
    /// clock.
    fn apart(&self, file: &RoleFile, admission: Admission) -> (Option<UpTo>, Option<Doubt>) {
        let copied = admission == Admission::Adopt(Why::Transplanted);
        let own = if copied { Cuts::default() } else { file.cuts() };
        let told = self.hello.role.iter().flat_map(|told| &told.held);
        let theirs: Vec<(Id, u64)> = told.map(|(of, until)| (Id::from_bytes(*of), *until)).collect();
        let cut = own.common(&theirs);
        let since = cut.and_then(|cut| own.doubtful(cut, clock()));
        let doubt = Doubt::apart(since.map(|secs| Time { secs, nanos: 0 }));
        (cut.map(|(of, until)| (of.to_bytes(), until)), Some(doubt))
    }

    fn judge(
        &self,
        place: Option<&TreeId>,
        read: Result<Option<&Record>, &RoleFileError>,
        teller: Option<&Teller>,
    ) -> Result<Granted, Refusal> {
        let tree = match (read, place) {
            (Ok(Some(record)), Some(place)) => tree(Some(record), place, self.ours),
            (Ok(_), _) => Tree::Plain { ours: self.ours },
            (Err(_), _) => Tree::Unreadable,
        };
        let told = tree.record().map(|record| self.telling(record));
        let offer = teller.map(|teller| Offer::of(&teller.record, &teller.host));
        let admitted = match (&offer, self.errand()) {
            (Some(Some(offer)), role::Errand::Change) => admit(tree, Sender::Led(offer)),
            (Some(None), role::Errand::Change) => Err(role::Refusal::LeadsNothing),
            (_, errand) => admit(tree, Sender::Plain(errand)),
        };
        admitted.map_err(|why| self.refused(&why, told.clone()))?;
        let answer = teller.map(|_| RoleAnswer { told, adopts: false, cut: None });
        Ok(Granted { led: None, answer })
    }

    fn errand(&self) -> role::Errand {
        match self.hello.terms.errand {
            _ if self.hello.dry_run => role::Errand::Look,
            Errand::Mirror => role::Errand::Change,
            Errand::Keeper => role::Errand::PutBack,
            Errand::Rehearsal => role::Errand::Look,
        }
    }

    fn telling(&self, record: &Record) -> RoleTold {
        RoleTold { host: host_name().to_string(), record: record.to_text(), held: Vec::new() }
    }

    fn refused(&self, why: &role::Refusal, told: Option<RoleTold>) -> Refusal {
        let message = why.told();
        let own = Here::root(&shown(self.path));
        let sender = self.hello.role.as_ref().map(|told| HostName::new(&told.host));
        let source = self.hello.origin.name.split_once(':').map_or("", |(_, path)| path);
        let theirs = Here::root(source);
        // It is read where the sender is.
        let types = |way: Remedy| match way {
            Remedy(Command::On(host, command), does) => {
                let here = if Some(&host) == sender.as_ref() { &theirs } else { &own };
                format!("{} {does}", here.types(&Command::On(host, command)))
            }
            Remedy(command, does) => {
                format!("{} {does}", own.types(&Command::On(host_name(), Box::new(command))))
            }
        };
        let hint: Vec<String> = message.ways.into_iter().map(types).collect();
        self.told(message.line, hint.join("; "), told)
    }

    fn failed(&self, error: &RoleFileError) -> Refusal {
        let hint = "look at the filesystem of the tree, and at who owns .speil in it".to_owned();
        self.told(error.to_string(), hint, None)
    }

    /// Returns a refusal that the sender knows.
    fn told(&self, line: String, hint: String, told: Option<RoleTold>) -> Refusal {
        let line = format!("{}: {line}", host_name());
        if self.hello.version >= VERSION_ROLES {
            return Refusal::Role { line, hint, told };
        }
        Refusal::Refused(if hint.is_empty() { line } else { format!("{line}; {hint}") })
    }
}

impl Led {
    /// Writes that the tree is in step with the sender.
    ///
    /// # Errors
    /// If it cannot be written: the next session begins where this one did.
    pub fn in_step(&self) -> Result<(), RoleFileError> {
        let standby = |old: &&Record| old.role == role::Role::Standby;
        let finished = |old: Option<&Record>| finish(Some(old.filter(standby)?), &self.place, &self.offer);
        self.file.update(|old| finished(old.ok()?))?;
        self.asking.in_step.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes in when the root was changed last before this session has touched it.
    pub fn root_was(mut self, root: Option<&Entry>) -> Self {
        if let Some(doubt) = &mut self.doubt {
            doubt.root = root.map(|root| root.ctime);
        }
        self
    }

    /// Returns which files may differ from the sender's though they look alike.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Returns what asks the primary to hand over.
    pub fn asking(&self) -> Arc<Asking> {
        Arc::clone(&self.asking)
    }

    /// Takes in what the primary answers to a hand-over: where both trees hold the same, that is remembered first.
    pub fn handing(&self, handing: Handing) {
        let standby = || self.file.read().ok().flatten().filter(|record| record.role == role::Role::Standby);
        if handing == Handing::Done(true)
            && self.durable
            && let Some(coming) = standby().and_then(|record| record.coming)
        {
            // What is not noted makes a later adoption read more.
            let _ = self.file.note_cut(role::Cut::of_hand_over(coming), clock());
        }
        self.asking.answered(handing);
    }

    /// Takes in what both trees hold.
    pub fn cut(&self, cut: Cut) {
        if self.durable && self.asking.in_step.load(Ordering::Acquire) {
            let cut = role::Cut { of: Id::from_bytes(cut.of), until: cut.until, read: cut.read };
            // What is not noted makes a later adoption read more.
            let _ = self.file.note_cut(cut, clock());
        }
    }
}

/// Whether a tree has a role, or may have one.
pub(super) fn has_role(root: &Root) -> bool {
    !holds_none(root)
}

/// Whether there is certainly nothing in the place of a role, whoever may not open the state directory.
pub(super) fn holds_none(root: &Root) -> bool {
    let looked = rustix::fs::statat(root, ".speil/role", AtFlags::SYMLINK_NOFOLLOW);
    matches!(looked, Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn adopts(admission: Admission) -> bool {
    matches!(admission, Admission::Adopt(_))
}

fn tree<'a>(record: Option<&'a Record>, place: &TreeId, ours: bool) -> Tree<'a> {
    Tree::of(record, place, ours)
}

/// Returns what people call this host.
fn host_name() -> HostName {
    HostName::new(&crate::disk::host_name())
}
