//! Counters of one target. Each says what it counts and what it excludes.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one target, added to by every stage.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// The values of [`Counters`] at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Returns the values now.
            pub fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Bytes handed to the connection, framing and compression included, ssh's own excluded.
    sent_bytes,
    /// Bytes received from the connection.
    received_bytes,
    /// File bytes sent as they are.
    literal_bytes,
    /// File bytes that the target already held.
    matched_bytes,
    /// Sizes of the files that were sent.
    file_bytes,
    /// Regular files whose content was sent or matched.
    files,
    /// Entries that the target did not hold before, as far as the sender knew.
    created,
    /// Directories made or updated.
    dirs,
    /// Symlinks, devices, FIFOs and sockets made.
    nodes,
    /// Hard links made.
    links,
    /// Entries whose metadata alone was sent.
    attrs,
    /// Renames on the target.
    renames,
    /// Deletes sent.
    deletes,
    /// Commits that were acknowledged.
    batches,
    /// Comparisons of a subtree.
    rescans,
    /// Entries that a pass found different and repaired.
    repairs,
    /// Files that were hashed on both sides because size and time did not prove them equal.
    hashed,
    /// Failures of single paths.
    problems,
    /// Connections made.
    connects,
}

impl Counters {
    /// Adds to one counter.
    pub fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }
}
