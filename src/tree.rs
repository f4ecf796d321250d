//! Names, entries and metadata of a mirrored tree.
//!
//! **Purpose:** the vocabulary that every other module shares: relative paths as bytes, what a file
//! is besides its content, and the digest that proves two directories equal.
//! **Invariants:** a [`RelPath`] never leaves its root (no empty, `.` or `..` component, no NUL);
//! nothing here opens a file or reads a clock.
//! **Not here:** reading entries from a disk (`disk`), walking (`scan`), comparing trees (`reconcile`).

mod acl;
mod chmod;
mod chown;
mod civil;
mod digest;
mod entry;
mod link_rules;
mod owner_map;
mod path;

pub use acl::{ACL_ACCESS, ACL_DEFAULT, Acl};
pub use chmod::{Chmod, ChmodError};
pub use chown::{Chown, ChownError, Owner};
pub use digest::{Digest, DirDigest, LinkDigest, entry_digest};
pub use entry::{Attrs, Entry, FileId, Kind, Mask, Meta, Time, Version, Xattr};
pub use link_rules::{LinkRule, LinkRules};
pub use owner_map::{OwnerMap, Owning};
pub use path::{NAME_LEN_MAX, PathError, RelPath, STATE_DIR, TEMP_PREFIX, check_name, quote, shell_word};
