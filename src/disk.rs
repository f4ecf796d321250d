//! The one way to touch a tree: through file descriptors, beneath a held root.
//!
//! **Purpose:** opening, reading and changing entries so that no symlink on the way, swapped in at
//! any moment, leads out of the tree, and no path length limit applies.
//! **In → Out:** a [`Root`] and [`RelPath`](crate::tree::RelPath)s; entries, fds.
//! **Invariants:** every multi-component path is resolved by `openat2(RESOLVE_BENEATH |
//! RESOLVE_NO_SYMLINKS)`, or component by component with `O_NOFOLLOW` where the kernel lacks it;
//! the last component is then used by `*at` calls on the parent's fd alone.
//! **Not here:** walking (`scan`), policy of any kind.
//! **Sources:** openat2(2), xattr(7), fcntl(2) "Leases".

mod aside;
mod attrs;
mod clock;
mod filesystem;
mod follow;
mod followed;
mod hiding;
mod host;
mod layers;
mod lease;
mod limits;
mod listing;
mod memory_place;
mod names;
mod notes;
mod read;
mod root;
mod trusted;

pub use aside::{FOREIGN, kept_since, slot_name, slot_time};
pub use attrs::{
    Handle, Unset, apply_attrs, apply_attrs_to_file, default_acl, read_entry, read_open, set_times,
};
pub use clock::{mark, read_clock};
pub use filesystem::{filesystem, stamps_changes};
pub use hiding::Rank;
pub use host::{boot_id, host_name, local_minute};
pub use layers::{Part, open_in};
pub use lease::{Writers, writers};
pub use limits::{outlive_file_limit, raise_limits, umask};
pub use memory_place::{memory_place, memory_place_outside, state_home};
pub use names::{Names, names, names_of};
pub use notes::{is_locked, note};
pub use read::{hash_zeros, hole_end, is_sparse, read_fully, read_over_holes, read_some};
pub(crate) use root::id_of;
pub use root::{Layer, Parent, Root, place};
pub use trusted::{is_at, open_to_append, open_to_read, open_to_write, read_whole, write_whole};

use std::ffi::CString;

/// Returns a name or path as a C string; a NUL inside ends it early, which no checked name holds.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_else(|error| {
        let end = error.nul_position();
        CString::new(&bytes[..end]).unwrap_or_default()
    })
}
