//! Events read and not yet looked at.
//!
//! **Invariants:** events leave in the order of the kernel; what concerns no directory of the tree, nor
//! one that an event in the queue brings into it, is dropped at once. Pure.

use std::collections::{HashSet, VecDeque};

use super::group::{Handle, Raw};
use crate::event::Moment;

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// An event.
    Event(Raw),
    /// The kernel's queue was empty here: no event behind is one with an event before.
    Dry,
    /// Everything that was changed before that moment has left.
    Mark(Moment),
    /// The kernel or this queue dropped events after all that left before.
    Overflow,
    /// Nothing is left.
    Empty,
}

enum Waiting {
    Event(Raw),
    Dry,
    Mark(Moment),
}

/// The queue.
pub(super) struct Queue {
    events: VecDeque<Waiting>,
    /// Directories that an event in the queue names.
    coming: HashSet<Handle>,
    len_max: usize,
    overflow: bool,
    /// Whether an event came since the kernel had no more.
    wet: bool,
    /// How often that was told, and how often it was taken out.
    dry: (u64, u64),
    /// How many marks are among the events.
    marks: usize,
}

impl Queue {
    /// Makes a queue that counts as overflown beyond `len_max` events.
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            coming: HashSet::new(),
            len_max,
            overflow: false,
            wet: false,
            dry: (0, 0),
            marks: 0,
        }
    }

    /// Appends one event, if it concerns a directory that is `live`.
    pub(super) fn push(&mut self, raw: Raw, live: impl Fn(Handle) -> bool) {
        let known = |handle: Handle| live(handle) || self.coming.contains(&handle);
        let concerns = known(raw.dir) || raw.to.as_ref().is_some_and(|to| known(to.0));
        if !concerns || self.overflow {
            return;
        }
        if self.events.len() >= self.len_max {
            self.overflow = true;
            return;
        }
        if raw.is_dir() && raw.has(libc::FAN_CREATE | libc::FAN_RENAME) {
            self.coming.insert(raw.target);
        }
        self.wet = true;
        self.events.push_back(Waiting::Event(raw));
    }

    /// Appends a mark: what waited when the clock showed that moment was appended.
    pub(super) fn mark(&mut self, moment: Moment) {
        if !self.overflow {
            self.marks += 1;
            self.events.push_back(Waiting::Mark(moment));
        }
    }

    /// Hears that the kernel dropped events.
    pub(super) fn overflow(&mut self) {
        self.overflow = true;
    }

    /// Hears that the kernel has no more.
    pub(super) fn dry(&mut self) {
        if std::mem::take(&mut self.wet) {
            self.dry.0 += 1;
            self.events.push_back(Waiting::Dry);
        }
    }

    /// Takes what comes next.
    pub(super) fn next(&mut self) -> Next {
        match self.events.pop_front() {
            Some(Waiting::Event(raw)) => Next::Event(raw),
            Some(Waiting::Mark(moment)) => {
                self.marks -= 1;
                Next::Mark(moment)
            }
            Some(Waiting::Dry) => {
                self.dry.1 += 1;
                Next::Dry
            }
            None if self.overflow => Next::Overflow,
            None => {
                self.coming.clear();
                Next::Empty
            }
        }
    }

    /// Returns a time from which [`Self::has_passed`] tells once all that happened before now was taken out.
    pub(super) fn moment(&mut self) -> u64 {
        self.wet = true;
        self.dry.0 + 1
    }

    /// Whether everything that happened before a [`Self::moment`] was taken out.
    pub(super) fn has_passed(&self, moment: u64) -> bool {
        self.dry.1 >= moment
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() + usize::from(self.overflow)
    }

    /// Returns how much was heard that is still to be taken, marks left out.
    pub(super) fn heard(&self) -> usize {
        self.len() - self.marks
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything, an overflow as well.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.marks = 0;
        self.coming.clear();
        self.overflow = false;
        self.dry.1 = self.dry.0;
    }

    /// Gives spare memory back.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.events.shrink_to(64);
            self.coming.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn handle(n: u8) -> Handle {
        Handle::new(0, 1, &[n]).unwrap()
    }

    fn raw(mask: u64, dir: u8, name: &str, target: u8) -> Raw {
        let name = name.as_bytes().into();
        Raw { at: Instant::now(), mask, dir: handle(dir), name, to: None, target: handle(target) }
    }

    /// Takes everything out: names, `-` where the kernel had no more.
    fn rest(queue: &mut Queue) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match queue.next() {
                Next::Event(raw) => said.push(String::from_utf8(raw.name.to_vec()).unwrap()),
                Next::Dry => said.push("-".to_owned()),
                Next::Mark(moment) => said.push(moment.0.to_string()),
                Next::Overflow => {
                    said.push("overflow".to_owned());
                    queue.clear();
                }
                Next::Empty => return said,
            }
        }
    }

    #[test]
    fn events_of_strangers_are_dropped_and_those_of_coming_directories_kept() {
        let mut queue = Queue::new(9);
        let live = |dir| dir == handle(1);
        queue.push(raw(libc::FAN_MODIFY, 2, "too early", 9), live);
        queue.push(raw(libc::FAN_CREATE | libc::FAN_ONDIR, 1, "dir", 2), live);
        queue.push(raw(libc::FAN_CREATE, 2, "in it", 9), live);
        queue.push(raw(libc::FAN_CREATE, 3, "elsewhere", 9), live);
        assert_eq!(rest(&mut queue), ["dir", "in it"]);
        queue.push(raw(libc::FAN_CREATE, 2, "never taken in", 9), live);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_empty_kernel_is_told_once_after_each_event_and_after_each_moment() {
        let mut queue = Queue::new(9);
        queue.dry();
        queue.push(raw(libc::FAN_MODIFY, 1, "a", 9), |_| true);
        queue.dry();
        queue.dry();
        assert_eq!(rest(&mut queue), ["a", "-"]);
        let moment = queue.moment();
        assert!(!queue.has_passed(moment));
        queue.dry();
        assert_eq!(rest(&mut queue), ["-"]);
        assert!(queue.has_passed(moment));
    }

    #[test]
    fn too_many_events_are_an_overflow_behind_those_that_were_kept() {
        let mut queue = Queue::new(2);
        for name in ["a", "b", "c"] {
            queue.push(raw(libc::FAN_MODIFY, 1, name, 9), |_| true);
        }
        assert_eq!(rest(&mut queue), ["a", "b", "overflow"]);
    }
}
