//! What a watcher heard, as entries of a queue.
//!
//! **Sources:** lsyncd 2.2.3 as observed: which event becomes which, moves over a filter's border.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use walkdir::WalkDir;

use super::core::{Core, Running};
use super::delays::Etype;
use super::native::State;
use crate::event::{Event, EventKind, RescanReason};
use crate::tree::RelPath;

/// Which of the kernel's events say that content changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InotifyMode {
    /// A file was closed after writing.
    pub close: bool,
    /// A file was written to.
    pub modify: bool,
}

impl InotifyMode {
    /// Reads the setting; `None` for a word that is none.
    pub fn from_word(word: Option<&str>) -> Option<Self> {
        let (close, modify) = match word {
            None | Some("" | "CloseWrite") => (true, false),
            Some("Modify") => (false, true),
            Some("CloseWrite or Modify") => (true, true),
            Some(_) => return None,
        };
        Some(Self { close, modify })
    }
}

/// Returns a path as the queue has it.
fn shown(path: &RelPath, dir: bool) -> Vec<u8> {
    let tail: &[u8] = if dir && !path.is_root() { b"/" } else { b"" };
    [b"/", path.as_bytes(), tail].concat()
}

impl Running {
    fn takes(&self, path: &RelPath, dir: bool) -> bool {
        !self.excludes(path, dir) && (self.spec.subdirs || path.depth() <= 1)
    }

    fn add(&mut self, etype: Etype, path: &RelPath, dir: bool) {
        if self.takes(path, dir) {
            let alarm = self.alarm();
            self.delays.push(etype, &shown(path, dir), alarm);
        }
    }

    /// Adds a create for everything below a directory.
    fn add_below(&mut self, top: &RelPath) {
        let root = Path::new(OsStr::from_bytes(&self.spec.source)).to_path_buf();
        let mut walk = WalkDir::new(root.join(OsStr::from_bytes(top.as_bytes()))).min_depth(1).into_iter();
        while let Some(found) = walk.next() {
            // What cannot be read is gone, or shows when rsync comes to it.
            let Ok(entry) = found else { continue };
            let below =
                entry.path().strip_prefix(&root).map(|path| RelPath::new(path.as_os_str().as_bytes()));
            let Ok(Ok(path)) = below else { continue };
            let is_dir = entry.file_type().is_dir();
            if self.takes(&path, is_dir) {
                self.add(Etype::Create, &path, is_dir);
            } else if is_dir {
                walk.skip_current_dir();
            }
        }
    }

    fn add_move(&mut self, from: &RelPath, to: &RelPath, dir: bool) {
        let whole = match (self.takes(from, dir), self.takes(to, dir)) {
            (false, false) => return,
            (false, true) => {
                self.add(Etype::Create, to, dir);
                false
            }
            (true, false) => return self.add(Etype::Delete, from, dir),
            (true, true) if self.spec.on.r#move.is_some() => {
                let alarm = self.alarm();
                self.delays.push_move(&shown(from, dir), &shown(to, dir), alarm)
            }
            (true, true) => {
                self.add(Etype::Delete, from, dir);
                self.add(Etype::Create, to, dir);
                false
            }
        };
        if dir && !whole {
            self.add_below(to);
        }
    }
}

/// Takes what the watcher of the sync at `at` heard.
pub fn accept(core: &mut Core, at: usize, events: Vec<Event>, mode: InotifyMode) {
    for event in events {
        if let EventKind::Rescan { path, reason } = event.kind {
            rescan(core, at, &path, reason);
            continue;
        }
        let Some(sync) = core.syncs.get_mut(at) else { return };
        if matches!(sync.state, State::Failed(_)) && sync.spec.init.is_some() {
            // The pass that it begins anew with finds it.
            continue;
        }
        match &event.kind {
            EventKind::Modify(path) if mode.modify => sync.add(Etype::Modify, path, false),
            EventKind::CloseWrite(path) if mode.close => sync.add(Etype::Modify, path, false),
            EventKind::Create { path, dir } => sync.add(Etype::Create, path, *dir),
            EventKind::Attrib { path, .. } if path.is_root() => {}
            EventKind::Attrib { path, dir } => sync.add(Etype::Attrib, path, *dir),
            EventKind::Delete { path, dir } => sync.add(Etype::Delete, path, *dir),
            EventKind::Move { from, to, dir } => sync.add_move(from, to, *dir),
            EventKind::Modify(_) | EventKind::CloseWrite(_) | EventKind::Rescan { .. } => {}
        }
    }
}

/// Nobody knows what happened below `path`: the first pass is made again where there is one, else
/// everything below counts as created.
fn rescan(core: &mut Core, at: usize, path: &RelPath, reason: RescanReason) {
    let line = match reason {
        RescanReason::Overflow => "--- OVERFLOW in event queue ---".to_owned(),
        reason => format!("what happened at \"{path}\" is not known ({})", reason.word()),
    };
    core.normal(&line);
    let Some(sync) = core.syncs.get_mut(at) else { return };
    if sync.spec.init.is_some() {
        let waits = sync
            .delays
            .iter()
            .any(|(_, entry)| entry.etype == Etype::Init && entry.status != super::delays::Status::Active);
        if !waits {
            let id = sync.delays.push_whole(Etype::Init, None);
            core.log.line("Delay", &format!("entry {id} is a pass over everything"));
        }
    } else {
        sync.add_below(path);
    }
}
