//! What was sent and not acknowledged, by its number: what an answer is about, and where that is by now.
//!
//! **In → Out:** operations, in the order in which they are sent; the name that what one of them was sent for has
//! after every rename that was sent behind it.
//! **Invariant:** an operation is known until its batch is acknowledged, and its answer comes before that. A peer
//! that knows no numbers answers with the path as it was sent; which of the renames came before is unknown then.
//!
//! Example: 1 puts `a`, 2 renames `a` to `b`, 3 puts another file at `a`. "1 was not done" is about `b`, "3 was not
//! done" about `a`; "`a` was not done" may be about either.

use std::collections::{HashMap, VecDeque};

use crate::batch::{name_after, names_after};
use crate::protocol::{BatchId, OperationId, StreamId, Subject, ToReceiver};
use crate::tree::RelPath;

/// Names that something undone may have by now; more are not followed one by one.
const NAMES_MAX: usize = 16;

/// One operation that was sent.
struct Operation {
    batch: BatchId,
    /// The path under which it was sent; of a rename the new one.
    path: RelPath,
    deed: Deed,
}

/// What is to be known of an operation besides its path.
enum Deed {
    Rename,
    Close(StreamId),
    /// A delete that a pass asked for, which may fail: something protected, or new, is in a directory.
    Final,
    Other,
}

/// A rename on its way.
struct Renaming {
    number: OperationId,
    from: RelPath,
    to: RelPath,
}

/// The operations of a session.
#[derive(Default)]
pub(super) struct Operations {
    /// Number of the operation that was sent last.
    last: OperationId,
    /// Those that were sent last and are not acknowledged.
    sent: VecDeque<Operation>,
    renames: VecDeque<Renaming>,
    /// Files in flight, under the names that they have by now.
    streams: HashMap<StreamId, RelPath>,
}

/// What an answer is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// The path as it was sent.
    pub path: RelPath,
    /// The operation, or the last that was sent before this was the name; `None` where the peer names none.
    number: Option<OperationId>,
}

impl Answered {
    /// Returns what a peer that knows no numbers answers.
    pub fn named(path: RelPath) -> Self {
        Self { path, number: None }
    }

    /// Returns the directory of what the answer is about.
    pub fn parent(&self) -> Self {
        Self { path: self.path.parent().unwrap_or_default(), number: self.number }
    }
}

impl Operations {
    /// Takes in what is being sent.
    pub fn add(&mut self, message: &ToReceiver<'_>, batch: BatchId) {
        match message {
            ToReceiver::Open { stream, path, .. } | ToReceiver::OpenKept { stream, path, .. } => {
                self.streams.insert(*stream, path.clone());
            }
            ToReceiver::Abandon { stream } => drop(self.streams.remove(stream)),
            _ => {}
        }
        if !message.is_operation() {
            return;
        }
        self.last += 1;
        let (path, deed) = match message {
            ToReceiver::Rename { from, to, .. } => {
                self.renames.push_back(Renaming { number: self.last, from: from.clone(), to: to.clone() });
                let moved = self.streams.values_mut().filter_map(|path| Some((path.rebase(from, to)?, path)));
                moved.for_each(|(new, path)| *path = new);
                (Some(to.clone()), Deed::Rename)
            }
            ToReceiver::Close { stream, .. } => (self.streams.remove(stream), Deed::Close(*stream)),
            ToReceiver::DirTime { path, .. } => (Some(path.clone()), Deed::Other),
            other => (other.paths()[0].cloned(), Deed::Other),
        };
        self.sent.push_back(Operation { batch, path: path.unwrap_or_default(), deed });
    }

    /// Notes that the delete which was sent last may fail.
    pub fn note_final(&mut self) {
        if let Some(operation) = self.sent.back_mut() {
            operation.deed = Deed::Final;
        }
    }

    /// Whether an answer is about a delete that may fail; it is one no more then.
    pub fn take_final(&mut self, answered: &Answered) -> bool {
        let known = match answered.number {
            Some(number) => self.index(number),
            // The last that was sent for the path.
            None => self.sent.iter().rposition(|sent| sent.path == answered.path),
        };
        let operation = known.and_then(|at| self.sent.get_mut(at));
        operation.is_some_and(|sent| {
            let is_final = matches!(sent.deed, Deed::Final);
            if is_final {
                sent.deed = Deed::Other;
            }
            is_final
        })
    }

    /// Forgets what is acknowledged.
    pub fn acknowledged(&mut self, batch: BatchId) {
        while self.sent.front().is_some_and(|operation| operation.batch <= batch) {
            self.sent.pop_front();
        }
        let first = self.first();
        while self.renames.front().is_some_and(|rename| rename.number < first) {
            self.renames.pop_front();
        }
    }

    /// Returns what an answer is about, of a rename both its names; `None` if it cannot be about this.
    pub fn subject(&mut self, of: Subject) -> Option<Vec<Answered>> {
        let number = match of {
            Subject::Operation(number) => number,
            Subject::Stream(stream) => {
                if let Some(path) = self.streams.remove(&stream) {
                    return Some(vec![Answered { path, number: Some(self.last) }]);
                }
                let closes = |sent: &Operation| matches!(sent.deed, Deed::Close(other) if other == stream);
                match self.sent.iter().rposition(closes) {
                    Some(at) => self.first() + at as u64,
                    // It was given up, and what came in its place says what is there.
                    None => return Some(Vec::new()),
                }
            }
        };
        let path = self.sent.get(self.index(number)?)?.path.clone();
        let to = Answered { path, number: Some(number) };
        let Some(rename) = self.rename(number) else { return Some(vec![to]) };
        // What is still at the old name is as unknown as the new one.
        Some(vec![Answered { path: rename.from.clone(), number: Some(number) }, to])
    }

    /// Returns the name that what an answer is about has by now, as far as that is known.
    pub fn name(&self, answered: &Answered) -> RelPath {
        match answered.number {
            Some(number) => name_after(answered.path.clone(), self.renames_behind(number)),
            None => answered.path.clone(),
        }
    }

    /// As [`Operations::name`]; where the operation is not known, after every rename that is on its way.
    pub fn last_name(&self, answered: &Answered) -> RelPath {
        name_after(answered.path.clone(), self.renames_behind(answered.number.unwrap_or(0)))
    }

    /// Returns the names that what an answer is about may have by now.
    pub fn names(&self, answered: &Answered) -> Vec<RelPath> {
        if answered.number.is_some() {
            return vec![self.name(answered)];
        }
        let names = names_after(answered.path.clone(), self.renames_behind(0), NAMES_MAX);
        names.unwrap_or_else(|| vec![RelPath::root()])
    }

    /// Returns where on the target may be what it holds under wrong names, if the answer is about a rename that
    /// was not done: the new name, and the names to which later renames have taken it, or something from below
    /// it.
    pub fn names_of_rename(&self, answered: &Answered) -> Vec<RelPath> {
        let path = &answered.path;
        let of = |rename: &Renaming| rename.to == *path || rename.from == *path;
        let first = match answered.number {
            Some(number) => self.renames.iter().position(|rename| rename.number == number && of(rename)),
            None => self.renames.iter().position(of),
        };
        let Some(first) = first else { return Vec::new() };
        let mut names: Vec<RelPath> = Vec::new();
        for Renaming { from, to, .. } in self.renames.iter().skip(first) {
            let moved: Vec<RelPath> = names.iter().filter_map(|name| name.rebase(from, to)).collect();
            let taken = from == path || to == path || names.iter().any(|name| from.is_within(name));
            let new = moved.into_iter().chain(taken.then(|| to.clone()));
            let new: Vec<RelPath> = new.filter(|name| !names.contains(name)).collect();
            names.extend(new);
            if names.len() > NAMES_MAX {
                return vec![RelPath::root()];
            }
        }
        names
    }

    /// Number of the oldest operation that is known.
    fn first(&self) -> OperationId {
        self.last + 1 - self.sent.len() as u64
    }

    fn index(&self, number: OperationId) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.first())?).ok()?;
        (at < self.sent.len()).then_some(at)
    }

    fn rename(&self, number: OperationId) -> Option<&Renaming> {
        let at = self.renames.binary_search_by_key(&number, |rename| rename.number).ok()?;
        self.renames.get(at)
    }

    fn renames_behind(&self, number: OperationId) -> impl Iterator<Item = (&RelPath, &RelPath)> {
        let first = self.renames.partition_point(|rename| rename.number <= number);
        self.renames.iter().skip(first).map(|rename| (&rename.from, &rename.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Expect;
    use crate::tree::Time;

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn rename(from: &str, to: &str) -> ToReceiver<'static> {
        ToReceiver::Rename { from: path(from), to: path(to), expect: Expect::Any }
    }

    fn delete(name: &str) -> ToReceiver<'static> {
        ToReceiver::Delete { path: path(name), expect: Expect::Any, keep_strangers: false }
    }

    fn open(stream: StreamId, name: &str) -> ToReceiver<'static> {
        ToReceiver::Open { stream, path: path(name), size: 1, basis: false }
    }

    fn of(operations: &mut Operations, number: OperationId) -> Vec<Answered> {
        operations.subject(Subject::Operation(number)).unwrap()
    }

    #[test]
    fn an_answer_is_about_the_file_that_was_sent_and_not_about_its_name() {
        let mut operations = Operations::default();
        for message in [delete("a"), rename("a", "b"), delete("a"), rename("b", "c/d"), rename("c", "e")] {
            operations.add(&message, 1);
        }
        let names = [1, 3].map(|number| {
            let answered = of(&mut operations, number);
            assert_eq!((answered.len(), &answered[0].path), (1, &path("a")));
            operations.names(&answered[0])
        });
        assert_eq!(names, [vec![path("e/d")], vec![path("a")]]);
        let both: Vec<RelPath> = of(&mut operations, 2).iter().map(|one| operations.name(one)).collect();
        assert_eq!(both, [path("a"), path("e/d")]);
        let renamed = of(&mut operations, 4).remove(0);
        assert_eq!(operations.names_of_rename(&renamed), ["c/d", "e/d"].map(path));
        // Who names a path leaves open which.
        let named = Answered::named(path("a"));
        assert_eq!(operations.names(&named), ["a", "b", "c/d", "e/d"].map(path));
    }

    #[test]
    fn a_file_in_flight_goes_with_the_renames_also_when_they_are_acknowledged() {
        let mut operations = Operations::default();
        operations.add(&open(1, "d/f"), 1);
        operations.add(&open(2, "d/g"), 1);
        operations.add(&rename("d", "e"), 1);
        operations.acknowledged(1);
        operations.add(&ToReceiver::DirTime { path: path("e"), mtime: Time::default() }, 2);
        let answered = operations.subject(Subject::Stream(1)).unwrap();
        assert_eq!(operations.names(&answered[0]), [path("e/f")]);
        assert_eq!(operations.subject(Subject::Stream(1)), Some(Vec::new()), "it was answered for");
        operations.add(&ToReceiver::Abandon { stream: 2 }, 2);
        assert_eq!(operations.subject(Subject::Stream(2)), Some(Vec::new()), "it was given up");
    }

    #[test]
    fn nothing_is_answered_that_was_not_sent_or_is_acknowledged() {
        let mut operations = Operations::default();
        operations.add(&delete("a"), 1);
        operations.note_final();
        operations.add(&delete("b"), 2);
        for number in [0, 3, u64::MAX] {
            assert_eq!(operations.subject(Subject::Operation(number)), None);
        }
        let first = of(&mut operations, 1).remove(0);
        assert!(operations.take_final(&first) && !operations.take_final(&first));
        operations.acknowledged(1);
        assert_eq!(operations.subject(Subject::Operation(1)), None);
        assert_eq!(of(&mut operations, 2).len(), 1);
    }
}
