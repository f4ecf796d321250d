//! Trees: made from a seed, and compared entry by entry.
//!
//! **Invariants:** the same seed makes the same names, bytes, modes and times; a comparison names
//! everything in which two trees differ, and what could not be read is a difference.
//! **Not here:** the walker of the product: `walkdir` is the second opinion.

mod compare;
mod grow;
mod kept;

pub use compare::{Aspect, Comparison, Difference, assert_same, compare};

pub use grow::{Grown, Upload, copy_tree, set_times};
pub use kept::kept_below;
