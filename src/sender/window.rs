//! How much of what is large may be on its way, so that what is small does not wait behind it.
//!
//! **Purpose:** a connection's buffers hold megabytes; a small change that comes while they are full waits
//! until they are drained. **In → Out:** bytes sent, marks that came back, a clock → whether there is room.
//! **Invariants:** pure; what is on its way is at most what the link carries in its own round trip and
//! [`QUEUE`] more, or [`LEAST`]; a link that can carry more is found out. **Sources:** the model of BBR
//! (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14, 2016): the largest rate and
//! the shortest round trip of the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that may always be on their way.
const LEAST: u64 = 256 << 10;
/// Bytes that may be on their way before anything is known of the link.
const FIRST: u64 = 1 << 20;
/// What may wait on the way, in time.
const QUEUE: Duration = Duration::from_millis(50);
/// Bytes after which the receiver is asked how far it is, at least.
const STEP: u64 = 64 << 10;
/// Time over which a rate is taken.
const RATE_SPAN: Duration = Duration::from_millis(50);
/// How long a rate counts.
const RATE_AGE: Duration = Duration::from_secs(5);
/// After this the round trip of the empty link is measured anew.
const BASE_AGE: Duration = Duration::from_secs(10);

/// What is on its way to one receiver.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Bytes sent when the receiver was asked last, and that it has said to have.
    marked: u64,
    received: u64,
    /// The questions under way: bytes sent before each, and when.
    marks: VecDeque<(u64, Instant)>,
    /// When how much had been received, over the last [`RATE_SPAN`].
    receipts: VecDeque<(Instant, u64)>,
    /// Rates in bytes per second, falling: the first is the largest of the last [`RATE_AGE`].
    rates: VecDeque<(Instant, f64)>,
    /// The shortest round trip, and when it was last seen.
    base: Option<(Duration, Instant)>,
    /// The link is left to drain, so that its round trip shows.
    draining: bool,
    /// There was no room when it was asked for last.
    full: bool,
}

impl Window {
    /// Takes in that `sent` bytes were sent in all; returns the mark that the receiver is to be asked for,
    /// if it is time.
    pub fn sent(&mut self, sent: u64, now: Instant) -> Option<u64> {
        // A few questions in a window are enough: each costs both sides a message.
        let step = if self.rates.is_empty() { STEP } else { STEP.max(self.limit() / 8) };
        if sent < self.marked.saturating_add(step) {
            return None;
        }
        self.marked = sent;
        self.marks.push_back((sent, now));
        Some(sent)
    }

    /// Takes in that the receiver has everything up to a mark; `true` if somebody waits for room.
    pub fn received(&mut self, mark: u64, now: Instant) -> bool {
        let mut asked = None;
        while self.marks.front().is_some_and(|(known, _)| *known <= mark) {
            asked = self.marks.pop_front();
        }
        // A receiver that answers what it was not asked tells nothing.
        let Some((mark, at)) = asked else { return false };
        self.received = mark;
        let trip = now.saturating_duration_since(at);
        if self.base.is_none_or(|(base, _)| trip <= base) {
            self.base = Some((trip, now));
        }
        self.take_rate(now);
        self.full
    }

    fn take_rate(&mut self, now: Instant) {
        self.receipts.push_back((now, self.received));
        let old = |at: Instant| now.saturating_duration_since(at) >= RATE_SPAN;
        while self.receipts.get(1).is_some_and(|(at, _)| old(*at)) {
            self.receipts.pop_front();
        }
        let Some(&(since, before)) = self.receipts.front().filter(|(at, _)| old(*at)) else { return };
        let span = now.saturating_duration_since(since).as_secs_f64();
        let rate = self.received.saturating_sub(before) as f64 / span;
        while self.rates.back().is_some_and(|(_, known)| *known <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((now, rate));
        while self.rates.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > RATE_AGE) {
            self.rates.pop_front();
        }
    }

    /// Whether more of what is large may be sent after `sent` bytes.
    pub fn has_room(&mut self, sent: u64, now: Instant) -> bool {
        let under_way = sent.saturating_sub(self.received);
        if let Some((_, seen)) = self.base
            && now.saturating_duration_since(seen) > BASE_AGE
            && self.full
        {
            self.draining = true;
        }
        if self.draining && self.marks.is_empty() {
            (self.draining, self.base) = (false, None);
        }
        // What was sent since the last question is never answered for by itself.
        self.full = !self.marks.is_empty() && (self.draining || under_way >= self.limit());
        !self.full
    }

    fn limit(&self) -> u64 {
        match (self.base, self.rates.front()) {
            (Some((base, _)), Some((_, rate))) => {
                ((base + QUEUE).as_secs_f64() * rate).clamp(LEAST as f64, 1e12) as u64
            }
            _ => FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link of a rate and a round trip, with a queue without end, and a sender of large files.
    struct Link {
        rate: f64,
        trip: f64,
        began: Instant,
        at: f64,
        window: Window,
        sent: u64,
        carried: f64,
        marks: VecDeque<u64>,
        answers: VecDeque<(f64, u64)>,
    }

    impl Link {
        fn new(rate: f64, trip: f64) -> Self {
            let (marks, answers) = (VecDeque::new(), VecDeque::new());
            let (window, began) = (Window::default(), Instant::now());
            Self { rate, trip, began, at: 0.0, window, sent: 0, carried: 0.0, marks, answers }
        }

        /// Sends for `seconds` in steps of 100 µs; returns the share of the link that was used, and the
        /// longest that a byte waited on the way beyond the round trip.
        fn run(&mut self, seconds: f64) -> (f64, f64) {
            let (end, mut used, mut waited) = (self.at + seconds, 0.0, 0_f64);
            while self.at < end {
                let now = self.began + Duration::from_secs_f64(self.at);
                while self.answers.front().is_some_and(|(due, _)| *due <= self.at) {
                    let (_, mark) = self.answers.pop_front().unwrap();
                    self.window.received(mark, now);
                }
                while self.window.has_room(self.sent, now) && self.sent as f64 - self.carried < 1e9 {
                    self.sent += 32 << 10;
                    self.marks.extend(self.window.sent(self.sent, now));
                }
                let step = (self.rate * 1e-4).min(self.sent as f64 - self.carried);
                self.carried += step;
                while self.marks.front().is_some_and(|mark| *mark as f64 <= self.carried) {
                    let mark = self.marks.pop_front().unwrap();
                    self.answers.push_back((self.at + self.trip, mark));
                }
                used += step;
                waited = waited.max((self.sent as f64 - self.carried) / self.rate);
                self.at += 1e-4;
            }
            (used / (self.rate * seconds), waited)
        }
    }

    #[test]
    fn links_of_every_kind_are_filled_and_nothing_waits_long() {
        for (rate, trip) in [(12.5e6, 0.025), (12.5e6, 0.11), (125e6, 0.0002), (1e6, 0.05), (125e6, 0.1)] {
            let mut link = Link::new(rate, trip);
            link.run(3.0);
            let (used, waited) = link.run(5.0);
            assert!(used > 0.95, "{rate} {trip}: {used}");
            // The least that may be under way takes its time on a slow link.
            let least = (LEAST + STEP) as f64 / rate;
            assert!(waited < (0.075_f64).max(least + 0.01), "{rate} {trip}: {waited} s");
        }
    }

    #[test]
    fn a_link_that_becomes_longer_or_faster_is_filled_again() {
        let mut link = Link::new(12.5e6, 0.02);
        link.run(3.0);
        link.trip = 0.2;
        link.run(15.0);
        // Once the link was left to drain, what it holds is sent at a time.
        let (used, waited) = link.run(8.0);
        assert!(used > 0.9 && waited < 0.26, "{used} {waited}");
        link.rate *= 4.0;
        link.run(8.0);
        let (used, waited) = link.run(8.0);
        assert!(used > 0.9 && waited < 0.26, "{used} {waited}");
    }

    #[test]
    fn a_receiver_that_answers_what_it_was_not_asked_opens_nothing() {
        let (mut window, now) = (Window::default(), Instant::now());
        assert_eq!(window.sent(FIRST, now), Some(FIRST));
        assert!(!window.has_room(FIRST, now));
        assert!(window.received(u64::MAX, now), "what was asked is answered");
        assert!(!window.received(u64::MAX, now));
        assert!(window.has_room(FIRST, now) && window.received <= FIRST);
    }
}
