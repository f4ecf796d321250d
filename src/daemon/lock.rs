//! Two runs on the same pair do not overlap.
//!
//! **Invariant:** a lock counts only on the file that is under the path: who lets go removes the file while the lock is
//! held, and who has waited for it looks whether it is still there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::disk::is_at;

/// How often it is looked whether a lock is free.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a lock is waited for, and believed.
#[derive(Debug, Clone, Copy)]
pub struct LockOptions {
    /// Time to wait for the holder; [`Duration::MAX`]: as long as it takes.
    pub wait: Duration,
    /// A holder that is older is not waited for.
    pub max_age: Duration,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run is at work. Consequence: this one does nothing, and says so with its exit code.
    #[error(
        "nothing was sent: another run (process {pid}) has been at work from this SOURCE to this TARGET for {} s",
        .age.as_secs()
    )]
    Held {
        /// Its process id.
        pid: u32,
        /// How long it has held the lock.
        age: Duration,
    },
    /// The lock file cannot be used. Consequence: die.
    #[error("lock file {}: {}", .path.display(), crate::error::io_text(.error))]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A held lock; dropping it frees the pair, and removes the file.
#[derive(Debug)]
pub struct Lock {
    /// Locked until it is closed.
    _file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Where it cannot be removed it stays, and is used again.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Lock {
    /// Takes the lock of the mirror with this identity.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(mirror: &[u8; 16], options: LockOptions) -> Result<Self, LockError> {
        let deadline = Instant::now().checked_add(options.wait);
        let (mut file, path) = open(mirror, "lock")?;
        let fail = |error| LockError::Io { path: path.clone(), error };
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, &path) => break,
                Ok(()) => (file, _) = open(mirror, "lock")?,
                Err(Errno::WOULDBLOCK) => {
                    let left = deadline.map_or(LOOK_AGAIN, |at| at.saturating_duration_since(Instant::now()));
                    let (pid, age) = holder(&mut file);
                    if left.is_zero() || age > options.max_age {
                        return Err(LockError::Held { pid, age });
                    }
                    // The wait must end at a time, and a blocking flock would not.
                    std::thread::sleep(LOOK_AGAIN.min(left));
                }
                Err(error) => return Err(fail(error.into())),
            }
        }
        let written = sign(&mut file);
        written.map_err(fail)?;
        Ok(Self { _file: file, path })
    }

    /// Takes the lock of the daemon that keeps this mirror live, besides which a single pass has its own.
    /// `None` where there is no place for such a lock: the target still refuses a second daemon.
    ///
    /// # Errors
    /// The process that has it.
    pub(super) fn take_live(mirror: &[u8; 16]) -> Result<Option<Self>, u32> {
        let Ok((mut file, path)) = open(mirror, "live") else { return Ok(None) };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // It was let go between the two calls.
            Ok(()) if !is_at(&file, &path) => Self::take_live(mirror),
            Ok(()) => {
                let _ = sign(&mut file);
                Ok(Some(Self { _file: file, path }))
            }
            Err(Errno::WOULDBLOCK) => Err(holder(&mut file).0),
            Err(_) => Ok(None),
        }
    }
}

/// Opens the lock file of a mirror.
fn open(mirror: &[u8; 16], suffix: &str) -> Result<(File, PathBuf), LockError> {
    let dir = runtime_dir();
    let path = dir.join(super::identity::file_name(mirror, suffix));
    let opened = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).and_then(|()| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW).open(&path)
    });
    match opened {
        Ok(file) => Ok((file, path)),
        Err(error) => Err(LockError::Io { path, error }),
    }
}

/// Writes who has a lock, and since when.
fn sign(file: &mut File) -> io::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{} {since}", std::process::id())
}

/// Returns which process has a lock, and for how long.
fn holder(file: &mut File) -> (u32, Duration) {
    let mut text = String::new();
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    let mut words = text.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
    let pid = words.next().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let since = UNIX_EPOCH + Duration::from_secs(words.next().unwrap_or(0));
    // One that has not signed yet has just begun.
    let age =
        if pid == 0 { Duration::ZERO } else { SystemTime::now().duration_since(since).unwrap_or_default() };
    (pid, age)
}

/// Returns where locks and control sockets of this user live.
pub(super) fn runtime_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir).join("speil");
    }
    let user = rustix::process::geteuid();
    if user.is_root() {
        return PathBuf::from("/run/speil");
    }
    std::env::temp_dir().join(format!("speil-{}", user.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_take_and_let_go_one_at_a_time_has_the_lock() {
        let id = *b"a test of many!!";
        let options = LockOptions { wait: Duration::from_secs(60), max_age: Duration::from_secs(3600) };
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let lock = Lock::take(&id, options).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }

    #[test]
    fn the_second_run_learns_who_holds_the_lock_and_the_third_gets_it() {
        let id = *b"a test's mirror!";
        let options = LockOptions { wait: Duration::ZERO, max_age: Duration::from_secs(3600) };
        let first = Lock::take(&id, options).unwrap();
        match Lock::take(&id, options) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        let daemon = Lock::take_live(&id).unwrap();
        assert!(daemon.is_some(), "a pass and a daemon each have a lock");
        assert_eq!(Lock::take_live(&id).err(), Some(std::process::id()));
        let path = first.path.clone();
        drop((first, daemon));
        assert!(!path.exists(), "nothing is left");
        assert!(Lock::take(&id, options).is_ok() && Lock::take_live(&id).is_ok());
    }
}
