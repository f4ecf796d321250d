//! Telling of what the target has as it is (`-ii`).

use std::collections::HashSet;

use super::Pass;
use crate::reconcile::Difference;
use crate::scan;
use crate::tree::{Entry, Kind, RelPath};

/// Differences, each with its path.
type Found<'a> = [(RelPath, Difference<'a>)];

impl Pass {
    /// Tells of what is alike in two listings of `dir`, and of all below directories that are not entered.
    pub(super) fn tell_same(
        &self,
        dir: Option<&RelPath>,
        (ours, theirs): (&[Entry], &[Entry]),
        found: &Found<'_>,
    ) {
        if !self.shared.monitor.itemizes_same() {
            return;
        }
        let differs = |(path, one): &(RelPath, Difference<'_>)| {
            (!matches!(one, Difference::Below(..) | Difference::Alike(..))).then(|| path.clone())
        };
        let differing: HashSet<RelPath> = found.iter().filter_map(differs).collect();
        let enters = |(path, one): &(RelPath, Difference<'_>)| {
            matches!(one, Difference::Below(..) | Difference::Retyped { .. }).then(|| path.clone())
        };
        let entered: HashSet<RelPath> = found.iter().filter_map(enters).collect();
        for entry in ours {
            let Ok(at) = theirs.binary_search_by(|other| other.name.cmp(&entry.name)) else { continue };
            let path = self.at(dir, entry);
            let is_left = theirs.get(at).is_some_and(|other| self.shared.rules.leave(entry, other));
            if !differing.contains(&path) && !is_left {
                self.tell_one(&path, entry);
            }
            let both_dirs = theirs.get(at).is_some_and(|other| other.attrs.meta.kind == Kind::Dir);
            if entry.attrs.meta.kind == Kind::Dir && both_dirs && !entered.contains(&path) {
                self.tell_below(&path);
            }
        }
    }

    /// Tells of one entry; what is not sent in any case is no part of what is alike.
    fn tell_one(&self, path: &RelPath, entry: &Entry) {
        let meta = &entry.attrs.meta;
        let is_sent = self.options.mask.carries(meta.kind)
            && (meta.kind != Kind::File || self.shared.options.sync.selection.sends_size(meta.size));
        if !is_sent {
            return;
        }
        // A run may compare a directory again.
        if !self.shared.options.live && !self.shared.tells_name(path) {
            return;
        }
        let several = entry.nlink > 1 && self.options.mask.hard_links && entry.attrs.meta.kind != Kind::Dir;
        let linked = several && !self.shared.tells_first(entry);
        self.shared.tell_same(path, entry, linked);
    }

    fn tell_below(&self, top: &RelPath) {
        if !self.options.recursive {
            return;
        }
        let (options, root) =
            (scan::Options { checksum: false, ..self.options.clone() }, self.shared.source.root());
        let mut waiting = vec![top.clone()];
        while let Some(dir) = waiting.pop() {
            let Ok(found) = scan::list(&root, &dir, &options, &self.shared.view) else { continue };
            for entry in &found.entries {
                let path = dir.join(&entry.name);
                self.tell_one(&path, entry);
                if entry.attrs.meta.kind == Kind::Dir && !scan::stops_at(&root, &options, entry) {
                    waiting.push(path);
                }
            }
        }
    }
}
