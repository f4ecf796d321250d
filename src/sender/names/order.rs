//! Numbers in the order of what they stand for: 4 bytes for each, where a tree of keys takes ten times that.
//!
//! **Invariants:** no chunk is empty; none holds more than [`CHUNK_MAX`]. The order is the caller's: he gives
//! it with each call, and does not change it meanwhile. Pure.

use std::cmp::Ordering;

/// Numbers that are kept side by side, and moved for one that comes between.
const CHUNK_MAX: usize = 512;

/// Numbers, sorted by what they stand for.
#[derive(Debug, Default)]
pub(super) struct Order {
    chunks: Vec<Vec<u32>>,
}

impl Order {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns where the first number is that is not before a key, which `to_key` compares a number with.
    fn at(&self, to_key: &impl Fn(u32) -> Ordering) -> (usize, usize) {
        let before = |number: &u32| to_key(*number) == Ordering::Less;
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(before));
        let inside = self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(before));
        (chunk, inside)
    }

    /// Returns the numbers from a key on.
    pub fn from(&self, to_key: impl Fn(u32) -> Ordering) -> impl Iterator<Item = u32> {
        let (chunk, inside) = self.at(&to_key);
        self.chunks.iter().skip(chunk).flatten().skip(inside).copied()
    }

    /// Adds a number that is not among them.
    pub fn insert(&mut self, number: u32, to_key: impl Fn(u32) -> Ordering) {
        let (mut chunk, mut inside) = self.at(&to_key);
        if chunk == self.chunks.len() && chunk > 0 {
            chunk -= 1;
            inside = self.chunks[chunk].len();
        }
        let Some(numbers) = self.chunks.get_mut(chunk) else {
            self.chunks.push(vec![number]);
            return;
        };
        numbers.insert(inside, number);
        if numbers.len() > CHUNK_MAX {
            // What comes in order fills each chunk.
            let half = if inside + 1 == numbers.len() { CHUNK_MAX } else { CHUNK_MAX / 2 };
            let rest = numbers.split_off(half);
            numbers.shrink_to_fit();
            self.chunks.insert(chunk + 1, rest);
        }
    }

    /// Removes a number, by its key.
    pub fn remove(&mut self, to_key: impl Fn(u32) -> Ordering) {
        let (chunk, inside) = self.at(&to_key);
        let Some(numbers) = self.chunks.get_mut(chunk) else { return };
        if numbers.get(inside).is_some_and(|number| to_key(*number) == Ordering::Equal) {
            numbers.remove(inside);
        }
        if numbers.is_empty() {
            self.chunks.remove(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_a_sorted_set_holds() {
        let (mut order, mut set) = (Order::default(), BTreeSet::new());
        let mut seed = 1_u32;
        for step in 0..20_000_u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // In order at first, then anywhere, and fewer at last.
            let number = if step < 3000 { step } else { seed >> 18 };
            let to_key = |other: u32| other.cmp(&number);
            if step > 3000 && (seed & 7 < 4 || step > 15_000) {
                assert_eq!(order.from(to_key).next(), set.range(number..).next().copied());
                order.remove(to_key);
                set.remove(&number);
            } else if set.insert(number) {
                order.insert(number, to_key);
            }
        }
        assert!(set.len() > 100 && order.chunks.iter().all(|chunk| !chunk.is_empty()));
        assert!(order.from(|_| Ordering::Equal).eq(set.iter().copied()));
        set.iter().for_each(|number| order.remove(|other| other.cmp(number)));
        assert!(order.is_empty());
    }
}
