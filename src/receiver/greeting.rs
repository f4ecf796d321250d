//! Accepting or refusing a session.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Options;
use super::elsewhere::Elsewhere;
use super::foreign::Foreign;
use super::ground::{Ground, may_enter, volume};
use super::outer::Above;
use super::place::{holds_nothing, place, shown};
use super::policy::{Policy, free_bytes};
use super::profile::{Profile, probe};
use super::rivals::sends_away;
use super::roles::{Asked, Granted, Led, has_role};
use super::state::{Memory, State};
use super::trash::Trash;
use crate::confine::confine;
use crate::disk::{Root, read_entry, set_times, umask};
use crate::error::errno_of;
use crate::filter::Filter;
use crate::protocol::{
    Confinement, Errand, Hello, Holder, Identified, Limits, Refusal, ReplyHello, RootPlace, StateMode, Tree,
    VERSION, VERSION_AGREED, VERSION_MIN, circle,
};
use crate::tree::{Entry, Mask, NAME_LEN_MAX};

/// How long a new session waits for an old one of the same root to leave.
const EVICTION_WAIT: Duration = Duration::from_secs(5);
/// How long a single pass waits for the agent of one before it to drain.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// Roots that need `force_root`.
const DANGEROUS: [&str; 12] =
    ["/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/proc", "/root", "/sys", "/usr", "/var"];

/// As many directories of a root's path are made as are missing.
const ALL: u8 = u8::MAX;

/// An accepted session.
pub(super) struct Session {
    pub root: Arc<Root>,
    pub ground: Arc<Ground>,
    pub state: Option<Arc<State>>,
    pub foreign: Option<Foreign>,
    pub trash: Option<Trash>,
    pub memory: Memory,
    pub filter: Filter,
    pub policy: Policy,
    /// Part of every temporary name of this session.
    pub tag: u32,
    pub reply: ReplyHello,
    /// What a dry run compares with.
    pub stand_in: Option<StandIn>,
    /// The root was not there.
    pub fresh: bool,
    /// A primary sends.
    pub led: Option<Led>,
    pub elsewhere: Elsewhere,
}

/// An empty directory in the place of a root that a dry run does not make; gone with its session.
pub(super) struct StandIn(PathBuf);

impl StandIn {
    fn new() -> io::Result<Self> {
        let name = super::install::temp_name(std::process::id());
        let path = std::env::temp_dir().join(OsStr::from_bytes(&name));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Returns the directory that is to hold `path`.
fn above(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a directory could be made under this path, with `makes` of its last components; with all of them if that is
/// [`ALL`].
fn could_be_made(path: &Path, makes: u8) -> bool {
    makes == ALL
        || makes > 0
            && (above(path).is_dir() || (makes > 1 && is_missing(above(path)) && above(above(path)).is_dir()))
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Makes a directory, with the one that is to hold it if `makes` is over 1, and all above it if that is [`ALL`].
fn make(path: &Path, makes: u8) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if makes == ALL && error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(above(path))?;
            std::fs::create_dir(path)
        }
        Err(error) if makes > 1 && error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir(above(path))?;
            std::fs::create_dir(path)
        }
        done => done,
    }
}

/// A root as it was found.
enum Found {
    /// It was there, or opening it will say why not.
    There,
    /// It was made.
    Made,
    /// It is missing, and stays so.
    Missing(StandIn),
}

impl Found {
    /// Returns whether the session's root is new, and what stands for it.
    fn apart(self) -> (bool, Option<StandIn>) {
        match self {
            Self::There => (false, None),
            Self::Made => (true, None),
            Self::Missing(stand_in) => (true, Some(stand_in)),
        }
    }
}

/// Makes a root that is not there yet, or for a dry run what stands for it.
fn provide(path: &Path, hello: &Hello, makes: u8) -> io::Result<Found> {
    let missing = || is_missing(path) && could_be_made(path, makes);
    match hello.terms.errand {
        Errand::Rehearsal if missing() => return StandIn::new().map(Found::Missing),
        Errand::Mirror if !hello.dry_run && makes > 0 => {}
        _ => return Ok(Found::There),
    }
    match make(path, makes) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Found::There),
        Err(error) => Err(error),
        Ok(()) => Ok(Found::Made),
    }
}

/// Refuses what can be refused before anything is opened or made. Returns the directories above the root in
/// which no other mirror is at work.
fn admit(hello: &Hello, path: &Path) -> Result<Above, Refusal> {
    if hello.version < VERSION_MIN || hello.version_min > VERSION {
        return Err(Refusal::Version { newest: VERSION, program: env!("CARGO_PKG_VERSION").to_owned() });
    }
    if !hello.force_root && is_dangerous(path) {
        return Err(Refusal::Dangerous(shown(path)));
    }
    // Also for who only asks.
    let above = match (hello.state, hello.terms.errand) {
        (StateMode::Keep, Errand::Mirror) => look_above(path).map_err(|why| in_words_of(hello, why))?,
        _ => Above::default(),
    };
    if hello.dry_run {
        return Ok(above);
    }
    refuse_inside(path, &hello.source)?;
    match &hello.before {
        // Primaries take turns at a tree: its role tells whose it is, and an empty mount point has none.
        Some(_) if hello.role.is_some() => Ok(above),
        Some(before) => may_enter(path, (before, hello.noted), &hex(&hello.mirror)).map(|()| above),
        None => Ok(above),
    }
}

/// As [`Above::look`], also for a root that is yet to be made.
fn look_above(path: &Path) -> Result<Above, Refusal> {
    let made = || Some(above(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(made).map_or_else(|| Ok(Above::default()), |path| Above::look(&path))
}

/// Returns a refusal that the sender knows.
fn in_words_of(hello: &Hello, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Within { outer, by } if hello.version < VERSION_AGREED => {
            Refusal::Busy { holder: format!("another mirror, {by}, to {outer}, which holds this directory,") }
        }
        other => other,
    }
}

/// Whether a session reads or writes what is in the state directory.
fn keeps_state(hello: &Hello) -> bool {
    let terms = &hello.terms;
    hello.state == StateMode::Keep || terms.errand == Errand::Keeper || terms.trash.is_some() || terms.partial
}

/// Opens the root that a sender asks for, and makes sure that this session alone works on it.
pub(super) fn open(hello: &Hello, options: &Options) -> Result<Session, Refusal> {
    let path = options.root_for(&hello.root);
    let fail = |error: io::Error| Refusal::Root { path: shown(&path), errno: errno_of(&error) };
    let above = admit(hello, &path)?;
    let filter = Filter::new(&hello.filters).map_err(|error| Refusal::Filter(error.to_string()))?;
    let found = provide(&path, hello, makes(hello, options)).map_err(fail)?;
    let (fresh, stand_in) = found.apart();
    let asked = stand_in.as_ref().map(|_| path.clone());
    let path = stand_in.as_ref().map_or(path.as_path(), |stand_in| stand_in.0.as_path());
    let root = Arc::new(Root::open(path).map_err(fail)?);
    let elsewhere = Elsewhere::open(&root, hello, (options.root.is_some(), asked.as_deref()))?;
    // What is tried in the root must not show in its time: a second run would find it changed.
    let before = read_entry(root.as_fd(), b"", &Mask::nothing()).map_err(fail)?;
    let place = place(path).map_err(fail)?;
    refuse_back(&place, hello)?;
    let obstacle = State::obstacle(&root).filter(|_| keeps_state(hello));
    obstacle.map_or(Ok(()), |(below, errno)| Err(Refusal::Root { path: shown(&path.join(below)), errno }))?;
    let closes = hello.terms.errand == Errand::Mirror && !hello.dry_run;
    let version = VERSION.min(hello.version);
    let ground = Arc::new(Ground::new(&root, path, (closes, version), above));
    let empty = holds_nothing(&root).map_err(fail)?;
    know_host();
    let volume = volume(&root).ok();
    // A stand-in is taken away in the end, from beside what the agent is confined to.
    let confines = options.confine && stand_in.is_none();
    let confinement = if confines { confine(&elsewhere.with(&root)) } else { Confinement::Off };
    let Claim { state, memory, ours, sent_away, granted } =
        claim((&root, path, &elsewhere.memory.place), hello, empty, &fail)?;
    let state = state.map(Arc::new);
    let foreign = state.as_deref().map(|state| foreign(&root, state)).transpose().map_err(fail)?;
    let trash = hello.terms.trash.filter(|_| !hello.dry_run);
    let trash = trash.map(|limits| Trash::open(&root, limits)).transpose().map_err(fail)?;
    let session = state.as_ref().map_or(0, |state| state.session);
    let tag = tag_of(session);
    let (policy, profile) = narrowed(hello, options, &root, tag);
    before.iter().filter(|_| !hello.dry_run).for_each(|before| date(&root, before));
    let reply = ReplyHello {
        version,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        profile: profile.mask,
        lacks: profile.lacks.into_iter().chain(elsewhere.memory.lack.clone()).collect(),
        identified: identified(ours, empty),
        limits: Limits { streams: super::streams::STREAMS_MAX, name_len: NAME_LEN_MAX as u32 },
        session,
        last_batch: memory.last_batch.1,
        boot_id: place.boot_id,
        provisional: memory.provisional.clone(),
        mounts: memory.mounts.clone(),
        kept: foreign.as_ref().map_or(0, Foreign::kept),
        free_bytes: policy.leaves(free_bytes(&root).unwrap_or(0)),
        confinement,
        lineage: place.lineage,
        sent_away: sent_away.map(|holder| holder.who).unwrap_or_default(),
        volume,
        watermark: memory.watermark.clone().map(Box::new),
        role: granted.answer,
    };
    Ok(Session {
        led: granted.led.map(|led| led.root_was(before.as_ref())),
        root,
        ground,
        state,
        foreign,
        trash,
        memory,
        filter,
        policy,
        tag,
        reply,
        stand_in,
        fresh,
        elsewhere,
    })
}

/// Opens what others wrote.
fn foreign(root: &Arc<Root>, state: &State) -> io::Result<Foreign> {
    // What was kept when a generation changed stays until somebody removes it.
    Foreign::new((root, state.dir()), !has_role(root))
}

/// Gives the root the time that it had.
fn date(root: &Root, before: &Entry) {
    let _ = set_times(root.as_fd(), before.attrs.meta.mtime);
}

/// Returns what is part of every temporary name of a session.
fn tag_of(session: u64) -> u32 {
    std::process::id() ^ u32::try_from(session & 0xffff_ffff).unwrap_or(0).rotate_left(20)
}

/// Reads what there is no way to once the agent is confined.
fn know_host() {
    umask();
    crate::role_file::know_host();
}

/// Returns how many directories at the end of the root's path are made where they are missing.
fn makes(hello: &Hello, options: &Options) -> u8 {
    match (&hello.role, &options.root) {
        // A tree that a primary fills does not come into being by itself.
        (Some(_), _) => 0,
        // The administrator's own root is no longer path than he wrote.
        (None, Some(_)) => 1,
        (None, None) => hello.makes,
    }
}

fn identified(ours: bool, empty: bool) -> Identified {
    match (ours, empty) {
        (true, _) => Identified::Ours,
        (false, true) => Identified::Empty,
        (false, false) => Identified::Stranger,
    }
}

/// Returns what the target can hold, and what of it is not let in.
fn narrowed(hello: &Hello, options: &Options, root: &Root, tag: u32) -> (Policy, Profile) {
    let mut policy = Policy::new(options);
    let mut profile = if hello.dry_run {
        Profile { mask: hello.mask, lacks: Vec::new(), folds_case: false }
    } else {
        probe(root, &hello.mask, tag)
    };
    policy.narrow(&mut profile, hello.dry_run);
    (policy, profile)
}

/// A root that this session holds alone.
struct Claim {
    state: Option<State>,
    memory: Memory,
    /// The tree carried this mirror's identity before.
    ours: bool,
    /// The session of another daemon that has to leave.
    sent_away: Option<Holder>,
    /// What the role of the tree allows.
    granted: Granted,
}

/// Takes the root: what another mirror owns, or an administrator has closed, is left untouched.
fn claim(
    (root, path, memory_at): (&Root, &Path, &Path),
    hello: &Hello,
    empty: bool,
    fail: &dyn Fn(io::Error) -> Refusal,
) -> Result<Claim, Refusal> {
    // Who puts something back on a promoted standby has closed it against mirrors, not against himself.
    if let Some(text) = State::refusal(root).filter(|_| hello.terms.errand != Errand::Keeper) {
        return Err(Refusal::Refused(text));
    }
    let keep = hello.state == StateMode::Keep && !hello.dry_run;
    let mirror = hex(&hello.mirror);
    let known = State::read_only_at(root, memory_at).map(|state| state.memory()).unwrap_or_default();
    let mut ours = known.mirror == mirror || hello.origin.former.iter().any(|id| hex(id) == known.mirror);
    // Before anything is made: a tree that is not the sender's is left as it is.
    let asked = Asked { root, path, memory: memory_at, hello, ours };
    let led = asked.look()?.answer.is_some() && hello.state == StateMode::Keep;
    let there = State::exists(root, memory_at);
    let mut state = if keep || there { State::open((root, memory_at), keep).map_err(fail)? } else { None };
    let mut memory = state.as_ref().map(State::memory).unwrap_or_default();
    // Also for who only asks: a look is to be answered as the daemon would be. Primaries
    // take turns.
    if hello.state == StateMode::Keep && !memory.mirror.is_empty() && !ours && !led {
        let at = state.as_ref().and_then(State::last_at_work);
        return Err(Refusal::Foreign { label: memory.who(at) });
    }
    let (mut sent_away, mut other) = (None, None);
    if keep {
        if let Some(state) = &mut state {
            sent_away = sends_away(root, state, &hello.origin)?;
            // The number is taken before the lock: an older session sees it and leaves.
            state.begin(holder_of(hello)).map_err(fail)?;
        }
    } else {
        // A single pass works under the lock alone, and not beside a live mirror.
        other = state.take();
    }
    if !hello.dry_run {
        lock(root, state.as_ref().or(other.as_ref()), keep).map_err(|holder| Refusal::Busy { holder })?;
    }
    if let Some(state) = &state {
        // The session before may have written until it left.
        memory = state.memory();
    }
    let granted = asked.take()?;
    if granted.led.is_some() {
        if !ours {
            // The source of another mirror had them.
            memory.mounts = Vec::new();
            memory.watermark = None;
        }
        (ours, memory.strange) = (true, false);
    }
    // What stood there first stays strange through reconnects, until the sender says that all is sent.
    memory.strange = if ours { memory.strange } else { !empty };
    let ours = ours && !memory.strange;
    // Of another mirror it says nothing.
    memory.watermark = memory.watermark.filter(|_| ours);
    if let Some(state) = &state {
        (memory.mirror, memory.label) = (mirror, hello.label.clone());
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        (memory.source, memory.target) = (hello.origin.name.clone(), shown(&path));
        state.remember(&memory).map_err(fail)?;
    }
    Ok(Claim { state, memory, ours, sent_away, granted })
}

/// Returns what is noted of the session that a hello begins.
fn holder_of(hello: &Hello) -> Holder {
    let source = Tree { place: hello.source.clone(), name: hello.origin.name.clone() };
    Holder {
        session: 0,
        start: hello.origin.start,
        who: hello.origin.who.clone(),
        chain: hello.origin.upstream.iter().cloned().chain([source]).collect(),
        filters: hello.filters.clone(),
        delete_excluded: hello.delete_excluded,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_dangerous(path: &Path) -> bool {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    DANGEROUS.iter().any(|bad| real == Path::new(bad))
}

/// Takes the lock that makes this the only agent on the root; waits for an evicted one to leave.
fn lock(root: &Root, state: Option<&State>, evicts: bool) -> Result<(), String> {
    let deadline = Instant::now() + if evicts { EVICTION_WAIT } else { DRAIN_WAIT };
    loop {
        match rustix::fs::flock(root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                // The holder leaves when it sees the session counter; there is nothing to wait on.
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Errno::WOULDBLOCK) => return Err(named(holder(root), state)),
            Err(error) => return Err(crate::error::io_text(&error.into())),
        }
    }
}

/// Adds the daemon behind an agent, where that is known.
fn named(agent: String, state: Option<&State>) -> String {
    match state.and_then(State::holder) {
        Some(holder) if !holder.who.is_empty() => format!("{agent} of {}", holder.who),
        _ => agent,
    }
}

/// Returns who holds the lock on the root, as far as `/proc/locks` tells.
fn holder(root: &Root) -> String {
    let unknown = "another speil agent".to_owned();
    let (Ok(id), Ok(locks)) = (root.id(), std::fs::read_to_string("/proc/locks")) else { return unknown };
    let wanted = format!("{:02x}:{:02x}:{}", rustix::fs::major(id.dev), rustix::fs::minor(id.dev), id.ino);
    let line = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut pids =
        line.filter(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&wanted.as_str()));
    match pids.next().and_then(|words| words.get(4).copied()) {
        Some(pid) => format!("another speil agent (process {pid})"),
        None => unknown,
    }
}

/// Refuses a root that overlaps the source, or a tree from which the source itself is mirrored.
fn refuse_back(place: &RootPlace, hello: &Hello) -> Result<(), Refusal> {
    if place.overlaps(&hello.source) {
        return Err(Refusal::Nested);
    }
    let Some(mut trees) = circle(&hello.origin.upstream, place) else { return Ok(()) };
    trees.push(hello.origin.name.clone());
    Err(Refusal::Circle { trees })
}

/// Refuses a root that is yet to be made inside the source, before anything is made there.
fn refuse_inside(path: &Path, source: &RootPlace) -> Result<(), Refusal> {
    if path.exists() {
        return Ok(());
    }
    let there = path.ancestors().skip(1).find(|above| !is_missing(above) && !above.as_os_str().is_empty());
    let above = there.unwrap_or(Path::new("."));
    match place(above) {
        Ok(above)
            if above.boot_id == source.boot_id
                && source.lineage.first().is_some_and(|root| above.lineage.contains(root)) =>
        {
            Err(Refusal::Nested)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_and_nested_roots_of_one_host_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join("c")).unwrap();
        let at = |name: &str| place(&dir.path().join(name)).unwrap();
        assert!(at("a").overlaps(&at("a")));
        assert!(at("a").overlaps(&at("a/b")));
        assert!(at("a/b").overlaps(&at("a")));
        assert!(!at("a").overlaps(&at("c")));
        let mut other_host = at("a");
        other_host.boot_id = "other".to_owned();
        assert!(!at("a").overlaps(&other_host));
    }

    #[test]
    fn system_directories_are_dangerous_roots() {
        for bad in ["/", "/etc", "/usr/", "/var/../etc"] {
            assert!(is_dangerous(Path::new(bad)), "{bad}");
        }
        assert!(!is_dangerous(Path::new("/var/www")));
    }
}
