//! A pass over the paths that `--files-from` names.

use std::collections::HashMap;
use std::time::Instant;

use super::super::status::Failure;
use super::{Moot, Pass, PassReply};
use crate::error::errno_of;
use crate::protocol::{ScanOptions, ToReceiver};
use crate::scan;
use crate::tree::{Entry, Kind, RelPath};

impl Pass {
    /// Compares the named paths and nothing else; deletes nothing.
    pub(super) fn only(&mut self, files: &[Vec<u8>]) -> Result<(), Moot> {
        let options = ScanOptions { checksum: self.options.checksum, recursive: false };
        self.send(&ToReceiver::Scan { pass: self.id, top: RelPath::root(), options })?;
        self.flush()?;
        self.began = self.shared.gate.pass().then(Instant::now).ok_or(Moot)?;
        let PassReply::Scanned { .. } = self.reply()? else { return Err(Moot) };
        let mut known: HashMap<RelPath, Vec<Entry>> = HashMap::new();
        for file in files {
            let trimmed: Vec<&[u8]> =
                file.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
            let Ok(path) = RelPath::new(trimmed.join(&b'/')) else {
                let (operation, errno) = ("read name from --files-from", libc::EINVAL);
                let failure = Failure {
                    operation,
                    errno,
                    on_target: false,
                    unseen: true,
                    since: self.since,
                    need: None,
                };
                self.shared.problem(&RelPath::root(), failure);
                continue;
            };
            let mut names = Vec::new();
            let mut at = path.clone();
            while let Some(parent) = at.parent() {
                names.push(at);
                at = parent;
            }
            for path in names.into_iter().rev() {
                self.only_one(&path, &mut known)?;
            }
        }
        Ok(())
    }

    fn only_one(&mut self, path: &RelPath, known: &mut HashMap<RelPath, Vec<Entry>>) -> Result<(), Moot> {
        let Some(dir) = path.parent() else { return Ok(()) };
        if !known.contains_key(&dir) {
            self.send(&ToReceiver::List { pass: self.id, dir: dir.clone() })?;
            self.flush()?;
            let listed = self.listing(&dir)?;
            known.insert(dir.clone(), listed);
        }
        let mut ours = match self.shared.source.entry(path, &self.options.mask) {
            Ok(Some(ours)) => ours,
            Ok(None) => {
                self.unreadable(path, libc::ENOENT, false);
                return Ok(());
            }
            Err(error) => {
                self.unreadable(path, errno_of(&error), false);
                return Ok(());
            }
        };
        scan::View::adjust(&self.shared.view, &mut ours.attrs);
        self.summary.entries += 1;
        self.summary.kinds.add(ours.attrs.meta.kind);
        self.summary.bytes += if ours.attrs.meta.kind == Kind::File { ours.attrs.meta.size } else { 0 };
        let theirs: Vec<Entry> =
            known.get(&dir).into_iter().flatten().filter(|entry| entry.name == ours.name).cloned().collect();
        self.differences(Some(&dir), std::slice::from_ref(&ours), &theirs)?;
        // A path named twice is sent once.
        if let Some(listed) = known.get_mut(&dir) {
            listed.retain(|entry| entry.name != ours.name);
            listed.push(ours);
        }
        Ok(())
    }
}
