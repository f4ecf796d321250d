//! What both sides say first, and why a session is refused.

use serde::{Deserialize, Serialize};

use super::confinement::{Confinement, told_or_not};
use super::keeping::{Terms, terms_or_none};
use super::origin::{Origin, origin_or_none};
use super::place::{RootPlace, lineage_or_none, text_or_none};
use super::roles::{RoleAnswer, RoleTold, answer_or_none, role_or_none};
use super::volume::{Lost, Volume, told_or_none};
use super::watermark::{Watermark, watermark_or_none};
use crate::config::{Backup, Durability};
use crate::tree::{FileId, Mask, RelPath};

/// Most ancestors of a root that the handshake carries.
pub const NESTING_MAX: usize = 256;

/// Whether the receiver keeps state in the target's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateMode {
    /// `.speil/` in the root: the live modes.
    Keep,
    /// Nothing is left behind: one pass.
    Traceless,
}

/// What the sender says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Newest protocol version that the sender speaks.
    pub version: u32,
    /// Oldest protocol version that the sender speaks.
    pub version_min: u32,
    /// Version of the program, for messages.
    pub program: String,
    /// Which mirror this is: the same for every session of one sync and target.
    pub mirror: [u8; 16],
    /// What people call the mirror, for messages on the target.
    pub label: String,
    /// The target's directory. An agent started with `--root` takes its own.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
    /// Where the source stands.
    pub source: RootPlace,
    /// What the user wants kept.
    pub mask: Mask,
    /// Filter rules, applied on both sides.
    pub filters: Vec<serde_bytes::ByteBuf>,
    /// Excluded entries of the target are not protected.
    pub delete_excluded: bool,
    /// Stay on the root's filesystem.
    pub one_file_system: bool,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Whether state is kept in the root.
    pub state: StateMode,
    /// Nothing may be changed.
    pub dry_run: bool,
    /// Dangerous roots (`/`, `/etc`, …) are meant.
    pub force_root: bool,
    /// Silence in milliseconds after which the receiver gives the connection up.
    pub idle_limit_ms: u64,
    /// What is asked for besides. Since [`VERSION_KEPT`](super::VERSION_KEPT).
    #[serde(deserialize_with = "terms_or_none")]
    pub terms: Terms,
    /// Where the session comes from. Since [`VERSION_ORIGIN`](super::VERSION_ORIGIN).
    #[serde(deserialize_with = "origin_or_none")]
    pub origin: Origin,
    /// The filesystem of the target's directory in the session before. Since
    /// [`VERSION_AGREED`](super::VERSION_AGREED).
    #[serde(deserialize_with = "told_or_none")]
    pub before: Option<Volume>,
    /// How many directories at the end of `root` are made where they are missing. A sender that does not say
    /// means 1, the root itself.
    #[serde(deserialize_with = "makes_or_one")]
    pub makes: u8,
    /// `before` was noted by a daemon before the sender's: what was put into the place meanwhile, on that same
    /// filesystem, is entered. Since [`VERSION_AGREED`](super::VERSION_AGREED).
    #[serde(deserialize_with = "noted_or_not")]
    pub noted: bool,
    /// The role of the source, if it has one. Since [`VERSION_ROLES`](super::VERSION_ROLES).
    #[serde(deserialize_with = "role_or_none")]
    pub role: Option<RoleTold>,
    /// Directories that may hold what the target lacks, as seen from its root. Since
    /// [`VERSION_BESIDE`](super::VERSION_BESIDE).
    #[serde(deserialize_with = "beside_or_none")]
    pub beside: Vec<serde_bytes::ByteBuf>,
    /// What is replaced or removed is kept so. Since [`VERSION_BESIDE`](super::VERSION_BESIDE).
    #[serde(deserialize_with = "backup_or_none")]
    pub backup: Option<Backup>,
    /// Nothing new is to appear in the root: what is remembered is kept outside of it, unless it is in it already.
    #[serde(deserialize_with = "outside_or_not")]
    pub outside: bool,
}

/// Reads what may be missing at the end of a hello.
fn outside_or_not<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(bool::deserialize(from).unwrap_or(false))
}

/// Reads what may be missing at the end of a hello.
fn backup_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Backup>, D::Error> {
    Ok(Option::deserialize(from).unwrap_or_default())
}

/// Reads what may be missing at the end of a hello.
fn beside_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<serde_bytes::ByteBuf>, D::Error> {
    Ok(Vec::deserialize(from).unwrap_or_default())
}

/// Reads what may be missing at the end of a hello.
fn noted_or_not<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(bool::deserialize(from).unwrap_or(false))
}

/// Reads what may be missing at the end of a hello.
fn makes_or_one<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    Ok(u8::deserialize(from).unwrap_or(1))
}

/// The receiver's limits, which the sender keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Files in flight at once.
    pub streams: u32,
    /// Longest name in bytes.
    pub name_len: u32,
}

/// Whether the target's tree is known to belong to this mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identified {
    /// It carries this mirror's identity.
    Ours,
    /// It carries none, and holds entries.
    Stranger,
    /// It carries none, and holds nothing.
    Empty,
}

/// What the receiver says first, if it accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyHello {
    /// The version that both will speak.
    pub version: u32,
    /// Version of the receiver's program.
    pub program: String,
    /// What the target can hold.
    pub profile: Mask,
    /// What it cannot hold, in words, for one line at connect.
    pub lacks: Vec<String>,
    /// Whether the tree is known.
    pub identified: Identified,
    /// The receiver's limits.
    pub limits: Limits,
    /// Number of this session in the target's life.
    pub session: u64,
    /// Last commit of the session before this one that was acknowledged, 0 if unknown.
    pub last_batch: u64,
    /// Boot id of the target's host.
    pub boot_id: String,
    /// Paths whose installed version was read while somebody may have been writing it.
    pub provisional: Vec<RelPath>,
    /// Directories of the source that were mount points, as the sender said last.
    pub mounts: Vec<RelPath>,
    /// Entries of strangers that are kept in `.speil/strangers/`.
    pub kept: u64,
    /// Free bytes on the target's filesystem, without those that the agent keeps free.
    pub free_bytes: u64,
    /// How far the agent has confined itself. An older one does not say.
    #[serde(deserialize_with = "told_or_not")]
    pub confinement: Confinement,
    /// The root's inode, then its ancestors', up to `/`. Since [`VERSION_ORIGIN`](super::VERSION_ORIGIN).
    #[serde(deserialize_with = "lineage_or_none")]
    pub lineage: Vec<FileId>,
    /// The daemon whose session had to leave for this one; empty if there was none. Since
    /// [`VERSION_ORIGIN`](super::VERSION_ORIGIN).
    #[serde(deserialize_with = "text_or_none")]
    pub sent_away: String,
    /// The filesystem of the root. An older agent does not say.
    #[serde(deserialize_with = "told_or_none")]
    pub volume: Option<Volume>,
    /// What is answered to a sender that tells of a role. Since [`VERSION_ROLES`](super::VERSION_ROLES).
    #[serde(deserialize_with = "answer_or_none")]
    pub role: Option<RoleAnswer>,
    /// Up to when the target has everything of the source, as its sender has said last. Since
    /// [`VERSION_MARKED`](super::VERSION_MARKED).
    #[serde(deserialize_with = "watermark_or_none")]
    pub watermark: Option<Box<Watermark>>,
}

impl Refusal {
    /// Whether it is about something that is in the place of speil's own state on the target.
    pub fn is_about_state(&self) -> bool {
        let Self::Root { path, errno: libc::ELOOP | libc::ENOTDIR | libc::EISDIR } = self else {
            return false;
        };
        path.rsplit('/').take(2).any(|name| name == ".speil")
    }
}

/// Why the receiver refuses a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No version in common.
    Version {
        /// Newest version of the receiver.
        newest: u32,
        /// Its program's version.
        program: String,
    },
    /// The root cannot be opened or created.
    Root {
        /// The path as the receiver took it.
        path: String,
        /// The errno.
        errno: i32,
    },
    /// Source and target are one tree, or one lies within the other.
    Nested,
    /// Another agent holds the root.
    Busy {
        /// Who holds it, as far as it can be told.
        holder: String,
    },
    /// The root belongs to another mirror.
    Foreign {
        /// The mirror that it belongs to.
        label: String,
    },
    /// `.speil/refuse` stands on the target; with its text.
    Refused(String),
    /// The root is one of the directories that need `--force-root`.
    Dangerous(String),
    /// A filter rule does not parse on this version.
    Filter(String),
    /// The mirror would close a circle. Since [`VERSION_ORIGIN`](super::VERSION_ORIGIN).
    Circle {
        /// The trees of the circle, from this root on.
        trees: Vec<String>,
    },
    /// The root's path leads elsewhere than before. Since [`VERSION_AGREED`](super::VERSION_AGREED).
    Lost {
        /// The path as the receiver took it.
        path: String,
        /// Where it leads.
        how: Lost,
    },
    /// The root is in the target of another live mirror, which would take away what is brought there. Since
    /// [`VERSION_AGREED`](super::VERSION_AGREED).
    Within {
        /// The path of the other mirror's target.
        outer: String,
        /// From where it is mirrored, and by which daemon; empty if that is not known.
        by: String,
    },
    /// The roles of the trees forbid it. Since [`VERSION_ROLES`](super::VERSION_ROLES).
    Role {
        /// What is the state, in one line.
        line: String,
        /// What may be typed on the receiver's host; empty if nothing helps there.
        hint: String,
        /// What the receiver tells of its tree, if that has a role.
        told: Option<RoleTold>,
    },
    /// A directory of [`Hello::beside`] or [`Hello::backup`] cannot be opened, or may not. Since
    /// [`VERSION_BESIDE`](super::VERSION_BESIDE).
    Beside {
        /// Its path, as it was asked for.
        path: String,
        /// The errno; `EXDEV` where it is outside of the agent's own root.
        errno: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_that_does_not_say_what_is_made_means_the_root() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Hello {
            number: u8,
            #[serde(deserialize_with = "makes_or_one")]
            makes: u8,
        }
        let read = |bytes: &[u8]| postcard::from_bytes::<Hello>(bytes).unwrap();
        assert_eq!(read(&[7, 2]), Hello { number: 7, makes: 2 });
        assert_eq!(read(&[7]), Hello { number: 7, makes: 1 });
    }
}
