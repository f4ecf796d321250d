//! The end of a session: of a carrier whose peer is done, and what is left to the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::names::Names;
use crate::batch::{Change, ChangeKind};
use crate::transport::{Control, Ended};
use crate::tree::RelPath;

/// How long a carrier may take to end once its peer is done.
const END_WAIT: Duration = Duration::from_secs(5);

/// Does `before` and waits for the end of a carrier whose peer is done; one that stays is ended.
pub(super) fn ended_soon(control: &Arc<dyn Control>, before: impl FnOnce()) -> Ended {
    let (done, waiting) = bounded::<()>(0);
    let carrier = Arc::clone(control);
    let killer = std::thread::Builder::new().name("end".to_owned()).spawn(move || {
        if waiting.recv_timeout(END_WAIT) == Err(RecvTimeoutError::Timeout) {
            carrier.kill();
        }
    });
    if killer.is_err() {
        control.kill();
    }
    before();
    let ended = control.ended();
    drop(done);
    ended
}

/// Returns what is to be read again of changes whose fate on the target is unknown, in their order, and of
/// what `names` says is unread. Renames and deletes are left to the pass that follows a reconnect, which
/// sees no edit that kept size and time: so a file is looked at under each name that it may have by now.
pub(super) fn unfinished(changes: impl Iterator<Item = Change>, names: &Names) -> Vec<Change> {
    let mut left = BTreeMap::<RelPath, Instant>::new();
    let note = |left: &mut BTreeMap<RelPath, Instant>, path: RelPath, since: Instant| {
        let known = left.entry(path).or_insert(since);
        *known = since.min(*known);
    };
    for Change { since, kind } in changes {
        match kind {
            ChangeKind::Update { path, .. } => note(&mut left, path, since),
            ChangeKind::Rename { from, to, .. } => {
                let (low, high) = from.below_range();
                let below = left.range(low..high).chain(left.get_key_value(&from));
                let moved: Vec<_> =
                    below.filter_map(|(path, since)| Some((path.rebase(&from, &to)?, *since))).collect();
                moved.into_iter().for_each(|(path, since)| note(&mut left, path, since));
            }
            _ => {}
        }
    }
    let beside: Vec<_> = left
        .iter()
        .flat_map(|(path, since)| names.beside(path).into_iter().map(|name| (name, *since)))
        .chain(names.unread().into_iter().map(|name| (name, Instant::now())))
        .collect();
    beside.into_iter().for_each(|(name, since)| note(&mut left, name, since));
    left.into_iter().map(|(path, since)| Change::read(path, since)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scope;
    use crate::tree::FileId;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    #[test]
    fn what_was_not_acknowledged_is_looked_at_under_every_name_that_it_may_have() {
        let since = Instant::now();
        let update = |text: &str| ChangeKind::Update { path: path(text), scope: Scope::Absent };
        let rename = |from: &str, to: &str| ChangeKind::Rename { from: path(from), to: path(to), dir: true };
        let kinds = [update("d/f"), rename("d", "e"), update("d/late"), rename("e/f", "g"), update("linked")];
        let mut names = Names::default();
        let (one, two) = (FileId { dev: 1, ino: 1 }, FileId { dev: 1, ino: 2 });
        for (id, name) in [(one, "linked"), (one, "other"), (two, "unread"), (two, "beside"), (two, "d")] {
            names.add(id, &path(name));
        }
        names.mark(two, &path("unread"), true);
        let left = unfinished(kinds.into_iter().map(|kind| Change { since, kind }), &names);
        let left: Vec<String> =
            left.iter().map(|change| String::from_utf8_lossy(change.kind.path().as_bytes()).into()).collect();
        assert_eq!(left, ["beside", "d", "d/f", "d/late", "e/f", "g", "linked", "other", "unread"]);
    }
}
