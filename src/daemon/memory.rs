//! Which filesystem each target was on, for a daemon that starts while a target's volume is away.
//!
//! **In → Out:** a mirror's identity; a small file in the state directory of this user, on the source's host.
//! **Invariants:** a file is its old whole version or its new whole version. Without one, a target is as it is
//! for a daemon that starts for the first time. **Not here:** what follows from it, which the agent decides
//! (`receiver/ground.rs`).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Target;
use crate::disk::state_home;
use crate::error::io_text;
use crate::monitor::Notice;
use crate::protocol::Volume;

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    /// For people who look into it.
    target: String,
    volume: Volume,
}

/// What a daemon notes of one target.
#[derive(Debug)]
pub(super) struct Memory {
    dir: Option<PathBuf>,
    name: String,
    target: String,
    /// What the file says, as far as is known.
    noted: Option<Volume>,
}

impl Memory {
    /// Returns where a target's filesystem is noted.
    pub fn of(mirror: &[u8; 16], target: &Target) -> Self {
        let name = super::identity::file_name(mirror, "volume");
        Self { dir: state_home(), name, target: target.to_string(), noted: None }
    }

    /// Returns the filesystem that was noted last; `None` if none was.
    ///
    /// # Errors
    /// A warning: the file cannot be read, and the target is taken for a new one.
    pub fn read(&mut self) -> Result<Option<Volume>, Notice> {
        let Some(path) = self.path() else { return Ok(None) };
        let fail = |error: io::Error| {
            let text = format!(
                "{}: {}: whether the target's volume is mounted is not known at this start",
                path.display(),
                io_text(&error)
            );
            Notice::Warning { text, hint: None }
        };
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(fail)?,
        };
        let noted: Noted = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
        self.noted = Some(noted.volume);
        Ok(self.noted.clone())
    }

    /// Notes a filesystem.
    ///
    /// # Errors
    /// A warning, once for each filesystem: nothing can be noted.
    pub fn write(&mut self, volume: &Volume) -> Result<(), Notice> {
        if self.noted.as_ref() == Some(volume) {
            return Ok(());
        }
        self.noted = Some(volume.clone());
        let done = match &self.dir {
            Some(dir) => {
                self.put(dir, volume).map_err(|error| format!("{}: {}", dir.display(), io_text(&error)))
            }
            None => Err("no HOME".to_owned()),
        };
        done.map_err(|why| {
            let text = format!(
                "which filesystem the target is on cannot be noted ({why}): if speil starts while the target's \
                 volume is not mounted, it will fill the directory below the volume"
            );
            let hint = "let speil write there, or set XDG_STATE_HOME to a directory where it may".to_owned();
            Notice::Warning { text, hint: Some(hint) }
        })
    }

    fn put(&self, dir: &Path, volume: &Volume) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let noted = Noted { target: self.target.clone(), volume: volume.clone() };
        let text = serde_json::to_string(&noted)? + "\n";
        let new = dir.join(format!("{}.new", self.name));
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        // Else a power cut may leave an empty file under the name.
        file.sync_all()?;
        std::fs::rename(&new, dir.join(&self.name))?;
        File::open(dir)?.sync_all()
    }

    fn path(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(&self.name))
    }
}

/// Returns where the histories of this user's daemons are kept.
pub fn history_dir() -> Option<PathBuf> {
    state_home().map(|dir| dir.join("log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    fn at(dir: &Path) -> Memory {
        let target = parse_target("standby:/srv").unwrap();
        Memory { dir: Some(dir.join("state")), ..Memory::of(b"a test's mirror!", &target) }
    }

    fn volume(dev: u64) -> Volume {
        Volume { boot_id: "boot".to_owned(), dev, kind: 7, id: 9 }
    }

    fn warns(done: Result<impl std::fmt::Debug, Notice>) -> String {
        match done {
            Err(Notice::Warning { text, .. }) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_one_daemon_notes_the_next_one_reads() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = at(dir.path());
        assert!(first.read().unwrap().is_none());
        first.write(&volume(1)).unwrap();
        first.write(&volume(2)).unwrap();
        assert_eq!(at(dir.path()).read().unwrap(), Some(volume(2)));
        assert_eq!(std::fs::read_dir(dir.path().join("state")).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_noted_or_read_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state"), "a file").unwrap();
        let mut memory = at(dir.path());
        let text = warns(memory.write(&volume(1)));
        assert!(text.contains("state: ") && text.contains("cannot be noted"), "{text}");
        memory.write(&volume(1)).unwrap();
        std::fs::remove_file(dir.path().join("state")).unwrap();
        memory.write(&volume(2)).unwrap();
        std::fs::write(memory.path().unwrap(), "").unwrap();
        let text = warns(at(dir.path()).read());
        assert!(text.contains(".volume: "), "{text}");
    }
}
