//! Whether a session may still work where it began to: in the directory that its path leads to, with nobody's
//! objection.
//!
//! **In → Out:** the root, the path that it was opened under; why the session ends, if it must.
//! **Invariants:** the path is looked up anew each time and compared by device, inode and mount; what is
//! acknowledged is in the directory that is under the path then. Where a sender says what filesystem it
//! mirrored to before, a path that leads elsewhere is entered only if this mirror's identity is there, or
//! nothing is on that same filesystem.
//! **Not here:** newer sessions, which `state` tells of and `knock` wakes for.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags};

use super::handing::Asking;
use super::outer::Above;
use super::reply::Reply;
use super::state::State;
use crate::disk::{Root, boot_id, filesystem};
use crate::protocol::{Lost, Refusal, ToSender, VERSION_AGREED, Volume};
use crate::tree::FileId;

/// How often is looked at what wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a sender may take to be told why its session ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where a session works.
pub(super) struct Ground {
    root: Arc<Root>,
    path: PathBuf,
    /// Tells of mounts that come and go; opened before the agent can open nothing any more.
    mounts: Option<File>,
    /// `.speil/refuse` ends the session.
    closes: bool,
    /// The version of the protocol that the sender speaks.
    version: u32,
    /// Where another mirror may begin that would take away what this one brings.
    above: Above,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    id: FileId,
    /// The mount; 0 on kernels before 5.8.
    mount: u64,
}

impl Spot {
    fn of(stat: &Statx) -> Self {
        let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Self { id: FileId { dev, ino: stat.stx_ino }, mount: stat.stx_mnt_id }
    }
}

impl Ground {
    /// Takes in where a session begins; before the agent is confined.
    pub fn new(root: &Arc<Root>, path: &Path, (closes, version): (bool, u32), above: Above) -> Self {
        let mounts = File::open("/proc/self/mountinfo").ok();
        Self { root: Arc::clone(root), path: path.to_owned(), mounts, closes, version, above }
    }

    /// Returns the root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns why nothing more may be changed, as far as an administrator has said so.
    pub fn closed(&self) -> Option<Refusal> {
        // Asked before every change: most often with one call.
        if !self.closes
            || rustix::fs::statat(&*self.root, ".speil/refuse", AtFlags::SYMLINK_NOFOLLOW).is_err()
        {
            return None;
        }
        State::refusal(&self.root).map(Refusal::Refused)
    }

    /// Returns why the session must end.
    pub fn ended(&self) -> Option<Refusal> {
        self.closed().or_else(|| self.moved()).or_else(|| self.above.begun())
    }

    fn moved(&self) -> Option<Refusal> {
        let flags = StatxFlags::INO | StatxFlags::MNT_ID;
        let held = rustix::fs::statx(&*self.root, c"", AtFlags::EMPTY_PATH, flags);
        let now = rustix::fs::statx(CWD, &self.path, AtFlags::empty(), flags);
        // Whatever keeps the path from being looked at keeps the next session from it as well.
        let same = held.is_ok_and(|held| now.is_ok_and(|now| Spot::of(&now) == Spot::of(&held)));
        (!same).then(|| Refusal::Lost { path: super::place::shown(&self.path), how: Lost::Replaced })
    }

    /// Tells the sender why the session ends, in words that it knows.
    pub fn tell(&self, reply: &Reply, why: Refusal) {
        let _ = reply.send(&self.words(why));
    }

    fn words(&self, why: Refusal) -> ToSender<'static> {
        if self.version >= VERSION_AGREED {
            ToSender::Refused(why)
        } else {
            ToSender::Fatal(match why {
                Refusal::Refused(text) => format!("the target refuses (.speil/refuse): {text}").into(),
                Refusal::Within { outer, .. } => format!("a mirror to {outer} has begun").into(),
                _ => "the target directory was replaced, moved, mounted over or unmounted".into(),
            })
        }
    }
}

/// Ends this process as soon as its session must end: a newer session of the mirror has begun, `.speil/refuse`
/// is written, or the path leads elsewhere. A connection that is dead on the network, or one without work, may
/// leave its agent waiting for bytes that never come.
pub(super) fn keep_watch(
    ground: Arc<Ground>,
    state: Option<Arc<State>>,
    reply: Arc<Reply>,
    asking: Option<Arc<Asking>>,
) -> io::Result<()> {
    let door = state.as_ref().and_then(|state| state.listen());
    std::thread::Builder::new().name("sentry".to_owned()).spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match state.as_ref().map(|state| (state.is_current(), state)) {
                Some((Ok(false), state)) => {
                    if let Some(who) = state.evicted_by() {
                        let text = format!("another daemon has taken the target over: {who}");
                        farewell(reply, ToSender::Fatal(text.into()));
                    }
                    break;
                }
                // Until it can be told, every change asks for itself, and is not made.
                Some((Err(_), _)) => std::thread::sleep(LOOK_EVERY),
                _ => {}
            }
            if let Some(why) = ground.ended() {
                farewell(reply, ground.words(why));
                break;
            }
            if let Some(asking) = &asking {
                asking.look(&reply);
            }
            wait(door.as_ref(), ground.mounts.as_ref());
            if let Some(door) = &door {
                // All that it says is that there is something to look at.
                let _ = rustix::io::read(door, &mut buffer[..]);
            }
        }
        // Between two system calls of the applying thread: each leaves the tree whole, and
        // temporary files are recognised by the next session.
        std::process::exit(super::EVICTED_STATUS);
    })?;
    Ok(())
}

/// Says the last word of a session; a connection that takes nothing in is not waited for.
fn farewell(reply: Arc<Reply>, words: ToSender<'static>) {
    let (done, told) = std::sync::mpsc::channel();
    let telling = std::thread::Builder::new().name("farewell".to_owned()).spawn(move || {
        let _ = done.send(reply.send(&words));
    });
    if telling.is_ok() {
        let _ = told.recv_timeout(FAREWELL);
    }
}

/// Waits until something may have changed: a newer session knocks, a mount comes or goes. Of all else the next
/// look tells. A host has few inotify instances, and they are left to those that mirror from it.
fn wait(door: Option<&OwnedFd>, mounts: Option<&File>) {
    let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
    let mut fds: Vec<PollFd<'_>> = door.iter().map(|door| PollFd::new(*door, PollFlags::IN)).collect();
    fds.extend(mounts.iter().map(|mounts| PollFd::new(*mounts, PollFlags::PRI)));
    let _ = poll(&mut fds, Some(&patience));
}

/// Returns the filesystem that a directory is on.
pub(super) fn volume(dir: &Root) -> io::Result<Volume> {
    let (dev, kind, id) = filesystem(dir)?;
    Ok(Volume { boot_id: boot_id(), dev, kind, id })
}

/// Refuses a path that led to a directory on the filesystem `before` and leads elsewhere now, unless this
/// mirror's identity is there, or nothing on that same filesystem. `noted`: no session of the sender was there
/// yet, and what holds something is entered on that filesystem as well.
pub(super) fn may_enter(path: &Path, (before, noted): (&Volume, bool), mirror: &str) -> Result<(), Refusal> {
    let lost = |how| Err(Refusal::Lost { path: super::place::shown(path), how });
    let Ok(root) = Root::open(path) else {
        let missing = path.symlink_metadata().is_err_and(|error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        });
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let there = Root::open(above).and_then(|above| volume(&above)).is_ok_and(|now| now.is(before));
        // What cannot be opened for another reason is refused for that.
        return if missing && !there { lost(Lost::Gone) } else { Ok(()) };
    };
    let memory = State::read_only(&root).map(|state| state.memory()).unwrap_or_default();
    if memory.mirror == mirror {
        return Ok(());
    }
    let there = volume(&root).is_ok_and(|now| now.is(before));
    match super::place::holds_nothing(&root) {
        Ok(true) if there => Ok(()),
        Ok(false) if there && noted => Ok(()),
        Ok(true) => lost(Lost::Empty),
        _ => lost(Lost::Strange),
    }
}
