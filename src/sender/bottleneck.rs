//! Whether compressing pays: whether it is the link that holds a transfer up.
//!
//! **In → Out:** how long the connection took for how many bytes of content; whether to compress.
//! **Invariants:** a busy processor looks like a slow link as long as one only waits for it, so both ways
//! are measured, and the one is taken that carries more content in the same time.

use std::time::Duration;

/// Above this rate, in bytes of content per second, nothing is tried.
const FAST: f64 = 60e6;
/// Bytes of content over which a rate is measured.
const WINDOW: u64 = 4 << 20;
/// What compressing must gain.
const GAIN: f64 = 1.1;
/// Windows until a way that did not pay, or that was not looked at, is tried again.
const REST: u32 = 32;

/// The rates of one connection, with and without.
#[derive(Debug, Default)]
pub(super) struct Bottleneck {
    bytes: u64,
    took: Duration,
    /// The rate of the last window without.
    plain: Option<f64>,
    packs: bool,
    /// Windows since the other way was tried.
    age: u32,
}

impl Bottleneck {
    /// Whether the link is what is slow, so that compressing pays.
    pub fn is_link(&self) -> bool {
        self.packs
    }

    /// Whether the connection takes in less than a search of new content gives, for whatever reason.
    pub fn is_slow(&self) -> bool {
        self.plain.is_some_and(|plain| plain < FAST)
    }

    /// Takes in that the connection took `took` for `bytes` of content, the packing of it included.
    pub fn note(&mut self, bytes: u64, took: Duration) {
        self.bytes += bytes;
        self.took += took;
        if self.bytes < WINDOW {
            return;
        }
        let rate = self.bytes as f64 / self.took.as_secs_f64().max(1e-9);
        (self.bytes, self.took) = (0, Duration::ZERO);
        self.age += 1;
        if self.packs {
            let pays = self.plain.is_some_and(|plain| rate > plain * GAIN);
            if !pays || self.age > REST {
                (self.packs, self.age) = (false, if pays { REST } else { 0 });
            }
        } else {
            // The first window is always judged.
            let may = self.plain.is_none() || self.age > REST;
            self.plain = Some(rate);
            if rate < FAST && may {
                (self.packs, self.age) = (true, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries windows at rates with and without; returns how many were packed.
    fn packed(bottleneck: &mut Bottleneck, windows: u32, plain: f64, packed: f64) -> u32 {
        (0..windows)
            .filter(|_| {
                let packs = bottleneck.is_link();
                let rate = if packs { packed } else { plain };
                bottleneck.note(WINDOW, Duration::from_secs_f64(WINDOW as f64 / rate));
                packs
            })
            .count() as u32
    }

    #[test]
    fn a_slow_link_is_packed_for_and_a_fast_one_or_a_busy_processor_is_not() {
        let mut link = Bottleneck::default();
        assert!(packed(&mut link, 1000, 12e6, 30e6) > 900);
        let mut fast = Bottleneck::default();
        assert_eq!(packed(&mut fast, 1000, 400e6, 30e6), 0);
        let mut busy = Bottleneck::default();
        assert!(packed(&mut busy, 1000, 40e6, 30e6) < 50);
        let mut random = Bottleneck::default();
        assert!(packed(&mut random, 1000, 12e6, 12e6) < 50, "what does not shrink is not packed in vain");
    }

    #[test]
    fn what_changes_is_found_out() {
        let mut bottleneck = Bottleneck::default();
        packed(&mut bottleneck, 100, 400e6, 30e6);
        assert!(packed(&mut bottleneck, 100, 12e6, 30e6) > 50, "the link became slow");
        assert!(packed(&mut bottleneck, 100, 400e6, 30e6) < 50, "and fast again");
    }
}
