//! The order of events, with the halves of renames joined.
//!
//! **Invariants:** events leave in the order of the kernel, a rename at the place of its first half (the
//! disk holds the new name from there on). A first half that has no second one yet holds back what
//! follows it until the kernel was asked again `hold` after it was read. Pure: time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rustix::fs::inotify::ReadFlags;

use super::super::kernel::{Raw, Said, Wd};
use crate::event::Moment;

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// An event by itself; a MOVED_FROM or MOVED_TO here has no other half.
    Event(Raw),
    /// A rename: its first half, and the directory and name of the second.
    Moved(Raw, Wd, Box<[u8]>),
    /// Everything that was changed before that moment has left.
    Mark(Moment),
    /// The second half of the first event may still come, until then.
    Wait(Instant),
    /// The kernel or this queue dropped events after all that left before.
    Overflow,
    /// Nothing is left.
    Empty,
}

/// Events read and not yet looked at.
pub(super) struct Queue {
    events: VecDeque<Said>,
    arrivals: HashMap<u32, (Wd, Box<[u8]>)>,
    len_max: usize,
    overflow: bool,
}

impl Queue {
    /// Makes a queue that counts as overflown beyond `len_max` events.
    pub(super) fn new(len_max: usize) -> Self {
        Self { events: VecDeque::new(), arrivals: HashMap::new(), len_max, overflow: false }
    }

    /// Appends one event.
    pub(super) fn push(&mut self, raw: Raw) {
        if self.overflow {
            return;
        }
        if raw.mask.contains(ReadFlags::QUEUE_OVERFLOW) || self.events.len() >= self.len_max {
            self.overflow = true;
            return;
        }
        let repeated = |last: &Said| {
            let Said::Event(last) = last else { return false };
            last.mask == ReadFlags::MODIFY && last.wd == raw.wd && last.name == raw.name
        };
        if raw.mask == ReadFlags::MODIFY && self.events.back().is_some_and(repeated) {
            return;
        }
        if raw.mask.contains(ReadFlags::MOVED_TO) {
            self.arrivals.insert(raw.cookie, (raw.wd, raw.name.clone()));
        }
        self.events.push_back(Said::Event(raw));
    }

    /// Appends a mark: what waited when the clock showed that moment was appended.
    pub(super) fn mark(&mut self, moment: Moment) {
        if !self.overflow {
            self.events.push_back(Said::Mark(moment));
        }
    }

    /// Takes what comes next. `drained`: when the kernel was last asked for more.
    pub(super) fn next(&mut self, drained: Instant, hold: Duration) -> Next {
        while let Some(said) = self.events.pop_front() {
            let raw = match said {
                Said::Event(raw) => raw,
                Said::Mark(moment) => return Next::Mark(moment),
            };
            if raw.mask.contains(ReadFlags::MOVED_TO) {
                if self.arrivals.remove(&raw.cookie).is_none() {
                    continue;
                }
            } else if raw.mask.contains(ReadFlags::MOVED_FROM) {
                if let Some((wd, name)) = self.arrivals.remove(&raw.cookie) {
                    return Next::Moved(raw, wd, name);
                }
                let until = raw.at + hold;
                if drained < until && !self.overflow {
                    self.events.push_front(Said::Event(raw));
                    return Next::Wait(until);
                }
            }
            return Next::Event(raw);
        }
        if self.overflow { Next::Overflow } else { Next::Empty }
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && !self.overflow
    }

    /// Forgets everything, an overflow as well.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.arrivals.clear();
        self.overflow = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(5);

    fn raw(at: Instant, mask: ReadFlags, cookie: u32, name: &str) -> Raw {
        Raw { at, wd: 1, mask, cookie, name: name.as_bytes().into() }
    }

    fn text(next: Next) -> String {
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        match next {
            Next::Event(raw) => format!("{:?} {}", raw.mask.iter_names().next().unwrap().0, name(&raw.name)),
            Next::Moved(raw, _, to) => format!("{}>{}", name(&raw.name), name(&to)),
            Next::Mark(moment) => format!("mark {}", moment.0),
            Next::Wait(_) => "wait".into(),
            Next::Overflow => "overflow".into(),
            Next::Empty => "empty".into(),
        }
    }

    fn check(max: usize, events: &[(ReadFlags, u32, &str)], late: bool, expected: &[&str]) {
        let start = Instant::now();
        let mut queue = Queue::new(max);
        for (mask, cookie, name) in events {
            queue.push(raw(start, *mask, *cookie, name));
        }
        let now = if late { start + HOLD } else { start };
        let mut said = Vec::new();
        while said.len() < expected.len() {
            said.push(text(queue.next(now, HOLD)));
        }
        assert_eq!(said, expected);
    }

    #[test]
    fn a_rename_leaves_at_the_place_of_its_first_half() {
        let (from, to, modify) = (ReadFlags::MOVED_FROM, ReadFlags::MOVED_TO, ReadFlags::MODIFY);
        let events = [(from, 7, "f"), (modify, 0, "x"), (to, 7, "g"), (modify, 0, "g")];
        check(9, &events, false, &["f>g", "\"MODIFY\" x", "\"MODIFY\" g", "empty"]);
    }

    #[test]
    fn interleaved_renames_are_joined_by_cookie() {
        let (from, to) = (ReadFlags::MOVED_FROM, ReadFlags::MOVED_TO);
        check(
            9,
            &[(from, 1, "a"), (from, 2, "b"), (to, 2, "y"), (to, 1, "x")],
            false,
            &["a>x", "b>y", "empty"],
        );
    }

    #[test]
    fn a_lone_first_half_holds_back_what_follows_until_its_time_is_up() {
        let events = [(ReadFlags::MOVED_FROM, 1, "a"), (ReadFlags::DELETE, 0, "b")];
        check(9, &events, false, &["wait", "wait"]);
        check(9, &events, true, &["\"MOVED_FROM\" a", "\"DELETE\" b", "empty"]);
    }

    #[test]
    fn a_second_half_that_comes_in_time_is_joined() {
        let start = Instant::now();
        let mut queue = Queue::new(9);
        queue.push(raw(start, ReadFlags::MOVED_FROM, 1, "a"));
        assert_eq!(text(queue.next(start, HOLD)), "wait");
        queue.push(raw(start, ReadFlags::MOVED_TO, 1, "b"));
        assert_eq!(text(queue.next(start, HOLD)), "a>b");
        assert_eq!(text(queue.next(start, HOLD)), "empty");
    }

    #[test]
    fn a_lone_second_half_is_an_event() {
        check(9, &[(ReadFlags::MOVED_TO, 1, "a")], false, &["\"MOVED_TO\" a", "empty"]);
    }

    #[test]
    fn repeated_modifies_are_one_and_others_are_not() {
        let m = ReadFlags::MODIFY;
        let events = [(m, 0, "a"), (m, 0, "a"), (m, 0, "b"), (m, 0, "a")];
        check(9, &events, false, &["\"MODIFY\" a", "\"MODIFY\" b", "\"MODIFY\" a", "empty"]);
    }

    #[test]
    fn a_mark_leaves_behind_a_rename_that_waits_for_its_other_half_and_not_behind_an_overflow() {
        let start = Instant::now();
        let mut queue = Queue::new(9);
        queue.push(raw(start, ReadFlags::MOVED_FROM, 1, "a"));
        queue.mark(Moment(7));
        assert_eq!(text(queue.next(start, HOLD)), "wait");
        queue.push(raw(start, ReadFlags::MOVED_TO, 1, "b"));
        assert_eq!(text(queue.next(start, HOLD)), "a>b");
        assert_eq!(text(queue.next(start, HOLD)), "mark 7");
        queue.push(raw(start, ReadFlags::QUEUE_OVERFLOW, 0, ""));
        queue.mark(Moment(8));
        assert_eq!(text(queue.next(start, HOLD)), "overflow");
    }

    #[test]
    fn an_overflow_comes_after_what_was_read_before_it() {
        let events =
            [(ReadFlags::CREATE, 0, "a"), (ReadFlags::QUEUE_OVERFLOW, 0, ""), (ReadFlags::CREATE, 0, "b")];
        check(9, &events, false, &["\"CREATE\" a", "overflow"]);
        check(
            1,
            &[(ReadFlags::CREATE, 0, "a"), (ReadFlags::CREATE, 0, "b")],
            false,
            &["\"CREATE\" a", "overflow"],
        );
    }
}
