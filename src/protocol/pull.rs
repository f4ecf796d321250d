//! What a target that pulls and the far side that sends say to each other, around the session itself.
//!
//! The pulling side opens with [`ToReceiver::Wanted`](super::ToReceiver::Wanted). From then on every frame is a
//! [`ToFar`] or a [`FromFar`]: the pieces of an [`Order`] first, then the bytes of the session between the far side's sender and the receiver
//! here, and beside them what the sender has to tell.
//!
//! **Invariants:** an order decides what is read, never what may be written: that is for the receiver's own side to say.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::handshake::Refusal;
use super::keeping::TrashLimits;
use crate::config::{Backend, Backup, Beside, Compress, Durability, Guard, Selection, Sources, Verify};
use crate::event::RescanReason;
use crate::monitor::{Counts, Itemized, PassSummary, Progress, Totals};
use crate::tree::{Mask, RelPath};

/// Which form orders and what follows them have. It is raised with every change of one of these types or of what they
/// hold: both sides must have the same.
pub const PULL_EDITION: u32 = 4;

/// Longest piece of the session's bytes in one frame.
pub const PULL_PIECE_MAX: usize = 256 * 1024;

/// Longest order in bytes: the lists of `--files-from` are in it.
pub const ORDER_LEN_MAX: usize = 64 << 20;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The source's directory, as it was written.
    #[serde(with = "serde_bytes")]
    pub source: Vec<u8>,
    /// It was written without a slash at its end: a symlink in its place is none of a directory.
    pub is_named: bool,
    /// What is kept.
    pub mask: Mask,
    /// Which entries take part.
    pub selection: Selection,
    /// Filter rules.
    pub filters: Vec<ByteBuf>,
    /// Entries that the source lacks are removed.
    pub deletes: bool,
    /// Which deletes are held back.
    pub guard: Guard,
    /// What is compared.
    pub verify: Verify,
    /// How it travels.
    pub means: Means,
    /// What comes of each entry is told.
    pub itemizes: bool,
    /// What stays as it is is told, too.
    pub itemizes_same: bool,
    /// What is to be sent where that is not the one directory.
    pub sources: Option<Sources>,
    /// Directories beside the target that may hold what it lacks.
    pub beside: Option<Beside>,
    /// What becomes of what is replaced or removed.
    pub backup: Option<Backup>,
    /// What changes is sent from then on as well; `None` for a single pass.
    pub live: Option<Live>,
}

/// How a source is kept mirrored until somebody stops it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// What the side that pulls calls the mirror and its target.
    pub names: (String, String),
    /// How long a busy path must be quiet, how long one that is never quiet waits, and how long a large file that is
    /// open: each in milliseconds.
    pub delays_ms: (u64, u64, u64),
    /// Milliseconds between two full passes.
    pub interval_ms: Option<u64>,
    /// How changes are noticed.
    pub watch: Backend,
    /// Milliseconds between two walks of a source that is polled.
    pub poll_ms: u64,
    /// There was a connection before.
    pub again: bool,
    /// Nothing is to be sent for now.
    pub paused: bool,
    /// What has arrived is to be told, path by path.
    pub arrivals: bool,
}

/// How data travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Means {
    /// Whether data is compressed.
    pub compress: Compress,
    /// Most bytes a second.
    pub bwlimit: Option<u64>,
    /// Silence in milliseconds after which the other side is given up.
    pub timeout_ms: u64,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// What the target keeps.
    pub trash: Option<TrashLimits>,
    /// What has arrived of a file is kept for the next run.
    pub partial: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// What has arrived is removed there.
    pub removes: bool,
}

/// To the far side, after the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToFar<'a> {
    /// A piece of the order, and when that is whole what the receiver says.
    Data(#[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>),
    /// The receiver has ended, with this status and these last lines of its standard error.
    Ended {
        /// Its exit status, if it has one.
        status: Option<i32>,
        /// Its last lines.
        stderr: Vec<String>,
    },
    /// Send no more, and end in order.
    Stop,
    /// A request to the mirror, as the control socket has it; it is answered under this number.
    Ask {
        /// The number.
        id: u64,
        /// The request, in JSON.
        #[serde(borrow, with = "serde_bytes")]
        request: Cow<'a, [u8]>,
    },
}

/// From the far side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromFar<'a> {
    /// Nothing is sent. Then nothing follows.
    Unsent(Unsent),
    /// What the sender says to the receiver.
    Data(#[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>),
    /// The sender says no more to the receiver.
    Closed,
    /// Something worth telling.
    Told(Box<Word>),
    /// How it ended. Then nothing follows.
    Done(Box<Account>),
    /// What was asked under this number is answered.
    Answer {
        /// The number.
        id: u64,
        /// The answer, in JSON.
        #[serde(borrow, with = "serde_bytes")]
        answer: Cow<'a, [u8]>,
    },
}

/// Why nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsent {
    /// The source cannot be read, as errno.
    Source(i32),
    /// It is no directory.
    NotDirectory,
    /// It is a symlink, and has no slash at its end.
    Link,
    /// It is outside of what this login may read.
    Outside,
    /// This login may only be sent to.
    Receives,
    /// It is a directory, and nobody asked to enter it.
    Directory,
    /// This login hides a part of its directory, and sends one directory at a time.
    OneDirectory,
    /// A rule file of the source's cannot be read, or not understood: why.
    Rules(String),
    /// It may be read only, and what has arrived was to be removed.
    ReadOnly,
    /// Symlinks are to be followed, and it has a filter of its own, which what they lead to would pass by.
    Follows,
    /// It has a role of a failover, and sends to its own standbys.
    Role,
    /// Orders have another form there.
    Edition {
        /// Its form.
        edition: u32,
        /// Its program's version.
        program: String,
    },
}

/// Something worth telling, as the sender's monitor hears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// An entry that was sent.
    Itemized(Itemized),
    /// How far it is.
    Progress(Progress),
    /// A path failed.
    Problem {
        /// The path.
        path: RelPath,
        /// What failed, as one verb.
        operation: String,
        /// The errno.
        errno: i32,
        /// Whether it failed on the target.
        on_target: bool,
    },
    /// Deletes were held back.
    Held {
        /// How many.
        count: u64,
        /// Why, as a clause.
        reason: String,
        /// The first of the paths, a few.
        first: Vec<RelPath>,
    },
    /// A directory that the source lacks stays.
    Stays(RelPath),
    /// A file went before it was sent.
    Vanished(RelPath),
    /// Anything else that somebody should know.
    Warning {
        /// One line.
        text: String,
        /// What to change.
        hint: Option<String>,
    },
    /// What only a close look needs.
    Detail(String),
    /// A live mirror stands: the agent's version, what the target cannot hold, and what the agent has taken away from
    /// itself.
    Connected(String, Vec<String>, String),
    /// The first pass is done, and every later change goes out as it happens.
    Live,
    /// A pass began below a path.
    PassBegan(RelPath, RescanReason),
    /// A pass ended.
    PassDone(RelPath, RescanReason, PassSummary),
    /// So many entries that strangers wrote on the target are kept there.
    Kept(u64),
    /// Something that a stranger wrote on the target was set aside.
    SetAside(RelPath),
    /// A subtree is to be compared.
    Rescan(RelPath, RescanReason),
    /// A batch of so many changes was acknowledged.
    Batch(u64, u64),
    /// Changes are held back by an operator, or go out again.
    Paused(bool),
    /// Something in the course of life.
    Message(String),
    /// What the target has acknowledged.
    Arrived(Vec<Arrival>),
}

/// A change that the target has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// What was done.
    pub what: String,
    /// The path; the new name of a rename.
    pub path: RelPath,
    /// The old name of a rename.
    pub from: Option<RelPath>,
    /// Milliseconds since the change was heard of.
    pub took_ms: Option<u64>,
}

/// How a pull ended, as the sender knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What was sent.
    pub totals: Totals,
    /// The entries of the source by their type, and the bytes in them, if they were counted.
    pub source: Option<(Counts, u64)>,
    /// Paths that failed.
    pub problems: u64,
    /// Whether deletes were held back.
    pub held: bool,
    /// Whether the target's own directory is none of what was sent.
    pub is_list: bool,
    /// Why it ended early.
    pub failure: Option<Failure>,
}

/// Why a pull ended early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The receiver refuses it.
    Refused(Refusal),
    /// Anything else: in words, with what to do about it and rsync's exit code.
    Other {
        /// What happened.
        text: String,
        /// What to change.
        hint: Option<String>,
        /// The exit code.
        code: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sync;

    /// An order that is encoded in another way is of another edition.
    #[test]
    fn an_order_of_this_edition_looks_as_it_always_did() {
        let sync = Sync::new("name", "/s", Vec::new());
        let order = Order {
            source: b"/s".to_vec(),
            is_named: false,
            mask: sync.mask,
            selection: sync.selection,
            filters: vec![ByteBuf::from(b"- *.tmp".as_slice())],
            deletes: true,
            guard: sync.guard,
            verify: sync.reconcile.verify,
            means: Means {
                compress: sync.compress,
                bwlimit: None,
                timeout_ms: 60_000,
                durability: sync.durability,
                trash: None,
                partial: false,
                dry_run: true,
                removes: false,
            },
            itemizes: true,
            itemizes_same: false,
            sources: None,
            beside: None,
            backup: None,
            live: Some(Live {
                names: ("name".to_owned(), "t".to_owned()),
                delays_ms: (20, 2000, 60_000),
                interval_ms: None,
                watch: Backend::Auto,
                poll_ms: 10_000,
                again: false,
                paused: true,
                arrivals: false,
            }),
        };
        let bytes = postcard::to_stdvec(&order).unwrap();
        assert_eq!(postcard::from_bytes::<Order>(&bytes).unwrap(), order);
        let account = postcard::to_stdvec(&Account::default()).unwrap();
        let hash = blake3::hash(&[bytes, account].concat()).to_hex();
        assert_eq!((&hash[..16], PULL_EDITION), ("cad46c1193f05257", 4));
    }
}
