//! The messages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::examination::{Examination, Stated};
use super::handshake::{Hello, Refusal, ReplyHello};
use super::keeping::{KeptEntry, Order};
use super::origin::Tree;
use super::owners::{OwnerNames, Owners};
use super::position::Mark;
use super::roles::{Cut, HandOver, Handing};
use super::watermark::Watermark;

use crate::tree::{Attrs, Digest, Entry, Kind, RelPath, Time};

/// Numbers one commit within a session, upwards from 1.
pub type BatchId = u64;
/// Numbers one file in flight within a session.
pub type StreamId = u32;
/// Numbers one pass within a session.
pub type PassId = u32;
/// Numbers one operation within a session, upwards from 1. Both sides count the messages of which
/// [`ToReceiver::is_operation`] says so; no message carries its own number.
pub type OperationId = u64;

/// What must stand under a name on the target for an operation to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Anything of this type.
    Kind(Kind),
    /// A directory, or anything that is none.
    Dir(bool),
    /// This type, size and time.
    Version {
        /// The type.
        kind: Kind,
        /// Bytes of a regular file.
        size: u64,
        /// Modification time.
        mtime: Time,
    },
    /// Anything at all.
    Any,
}

/// What a pass walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanOptions {
    /// Hash contents.
    pub checksum: bool,
    /// Walk below the top; without it the top's own entries are all.
    pub recursive: bool,
}

/// From the sender to the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToReceiver<'a> {
    /// First message.
    Hello(Box<Hello>),
    /// What are these owners on the target? Answered by [`ToSender::Owners`].
    Owners(OwnerNames),
    /// A directory; an existing one takes the attributes.
    Mkdir {
        /// The path.
        path: RelPath,
        /// What it is like.
        attrs: Attrs,
    },
    /// A symlink, FIFO, socket or device.
    Node {
        /// The path.
        path: RelPath,
        /// What it is like.
        attrs: Attrs,
    },
    /// Metadata alone, of what stands there.
    Attrs {
        /// The path.
        path: RelPath,
        /// What it is like.
        attrs: Attrs,
        /// What must stand there, else [`Why::Differs`].
        expect: Expect,
    },
    /// The modification time of a directory, after what happened in it. Silent where there is none.
    DirTime {
        /// The directory.
        path: RelPath,
        /// Its modification time.
        mtime: Time,
    },
    /// A hard link to what the target holds at `existing`.
    Link {
        /// The new name.
        path: RelPath,
        /// The name that it joins.
        existing: RelPath,
        /// What must stand at `existing`, else [`Why::Differs`] for `path`.
        expect: Expect,
    },
    /// Moves what the target holds, over whatever stands at `to`.
    Rename {
        /// The old name.
        from: RelPath,
        /// The new name.
        to: RelPath,
        /// What must stand at `from`, else [`Why::Differs`] for `to`.
        expect: Expect,
    },
    /// Removes one entry; a directory only if it is empty.
    Delete {
        /// The path.
        path: RelPath,
        /// What must stand there, else [`Why::Differs`].
        expect: Expect,
        /// What was written by someone else is set aside, not removed.
        keep_strangers: bool,
    },
    /// A whole small file.
    Put {
        /// The path.
        path: RelPath,
        /// What it is like.
        attrs: Attrs,
        /// BLAKE3 of `data`.
        hash: [u8; 32],
        /// Somebody may have been writing while it was read.
        provisional: bool,
        /// The content.
        #[serde(borrow, with = "serde_bytes")]
        data: Cow<'a, [u8]>,
    },
    /// Asks for the signature of what stands at `path`, which becomes the basis of `stream`.
    Sign {
        /// The stream to be.
        stream: StreamId,
        /// The path.
        path: RelPath,
    },
    /// Begins a file in pieces.
    Open {
        /// The stream.
        stream: StreamId,
        /// The path.
        path: RelPath,
        /// Bytes that are about to come, for the space check; the truth may differ.
        size: u64,
        /// Whether the basis that was signed under this number is used.
        basis: bool,
    },
    /// Literal bytes, appended.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        #[serde(borrow, with = "serde_bytes")]
        data: Cow<'a, [u8]>,
    },
    /// A run of the basis, appended.
    Copy {
        /// The stream.
        stream: StreamId,
        /// Where the run begins in the basis, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
    },
    /// A hole, appended.
    Hole {
        /// The stream.
        stream: StreamId,
        /// How long it is, in bytes.
        len: u64,
    },
    /// Ends a file: verify, set the attributes, install.
    Close {
        /// The stream.
        stream: StreamId,
        /// What it is like.
        attrs: Attrs,
        /// BLAKE3 of everything that was appended.
        hash: [u8; 32],
        /// Somebody may have been writing while it was read.
        provisional: bool,
    },
    /// Gives a stream up, begun or only signed.
    Abandon {
        /// The stream.
        stream: StreamId,
    },
    /// Makes everything before it durable; answered by [`ToSender::Acked`].
    Commit {
        /// Number of the commit.
        batch: BatchId,
    },
    /// Walks a subtree; answered by [`ToSender::Scanned`].
    Scan {
        /// Number of the pass.
        pass: PassId,
        /// Its top.
        top: RelPath,
        /// What to walk.
        options: ScanOptions,
    },
    /// Lists a directory within a pass; answered by [`ToSender::Listing`].
    List {
        /// Number of the pass.
        pass: PassId,
        /// The directory.
        dir: RelPath,
    },
    /// Asks for the groups of hard links that a pass found; answered by [`ToSender::Links`].
    Links {
        /// Number of the pass.
        pass: PassId,
    },
    /// Asks within a pass for BLAKE3 of a file; answered by [`ToSender::Hashed`].
    Hash {
        /// Number of the pass.
        pass: PassId,
        /// The file.
        path: RelPath,
    },
    /// Ends a pass; its digests are forgotten.
    EndPass {
        /// Number of the pass.
        pass: PassId,
    },
    /// Answered by [`ToSender::Pong`].
    Ping(u64),
    /// Directories of the source that are mount points: what the next session must find mounted before
    /// it takes emptiness for a deletion.
    Mounts(Vec<RelPath>),
    /// Everything that stood in the tree before the mirror is as the source has it, or may go.
    Adopt,
    /// Names whose installed version is no longer provisional.
    Confirm(Vec<RelPath>),
    /// The sender is done.
    Bye,
    /// Asks what the target is like; answered by [`ToSender::Examined`]. In a dry run only.
    Examine,
    /// Bytes that are thrown away: how fast the way is. In a dry run only.
    Discard(#[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>),
    /// How the mirror does, for who asks on the target. Since [`VERSION_STATE`](super::VERSION_STATE).
    State(Stated),
    /// Asks what is kept; answered by [`ToSender::Kept`]. Since [`VERSION_KEPT`](super::VERSION_KEPT), as what follows.
    Kept(Order),
    /// Puts back what is kept; answered by [`ToSender::Kept`]. In a session of [`Errand::Keeper`] alone.
    ///
    /// [`Errand::Keeper`]: super::Errand::Keeper
    Undo(Order),
    /// As [`ToReceiver::Hash`], at no more than so many bytes a second and past the page cache.
    Prove {
        /// Number of the pass.
        pass: PassId,
        /// The file.
        path: RelPath,
        /// Bytes a second.
        rate: u64,
    },
    /// Keeps what stands at a path, besides leaving it there.
    KeepAside {
        /// The path.
        path: RelPath,
        /// What must stand there, else [`Why::Differs`].
        expect: Expect,
    },
    /// Asks what has arrived of a file before; answered by [`ToSender::Partial`].
    Resume {
        /// The stream to be.
        stream: StreamId,
        /// The path.
        path: RelPath,
    },
    /// As [`ToReceiver::Open`], for a file that is kept if the connection ends.
    OpenKept {
        /// The stream.
        stream: StreamId,
        /// The path.
        path: RelPath,
        /// Bytes that are about to come, for the space check; the truth may differ.
        size: u64,
        /// Whether the basis that was signed under this number is used.
        basis: bool,
        /// Bytes of what has arrived before, which stay; what follows comes behind them.
        from: u64,
    },
    /// A small file with the content of another one on the target, else [`Why::Torn`]. Since
    /// [`VERSION_DUPLICATE`](super::VERSION_DUPLICATE).
    Duplicate {
        /// The path.
        path: RelPath,
        /// Whose content it has.
        like: RelPath,
        /// What it is like.
        attrs: Attrs,
        /// BLAKE3 of the content.
        hash: [u8; 32],
        /// Somebody may have been writing while it was read.
        provisional: bool,
    },
    /// Asks for places where further connections may join, so many at most; answered by
    /// [`ToSender::Places`]. Since [`VERSION_BUNDLE`](super::VERSION_BUNDLE), as what follows.
    Widen {
        /// How many.
        connections: u8,
    },
    /// First message on a further connection; answered by [`ToSender::Joined`].
    Join {
        /// The target's directory. An agent started with `--root` takes its own.
        #[serde(with = "serde_bytes")]
        root: Vec<u8>,
        /// One of the places.
        #[serde(with = "serde_bytes")]
        place: Vec<u8>,
    },
    /// To each place a connection has come; from here on everything comes in pieces over all of them.
    Bundled,
    /// As [`ToReceiver::Undo`], answered by [`ToSender::AsItWas`] as well; in a dry run nothing is changed.
    /// Since [`VERSION_RESTORE`](super::VERSION_RESTORE).
    Restore(Order),
    /// The trees from which the source itself is mirrored are these now, the first one first. Since
    /// [`VERSION_ORIGIN`](super::VERSION_ORIGIN).
    Upstream(Vec<Tree>),
    /// Within a pass: a directory is on the target as on the source, with everything below it, whoever wrote
    /// it. A directory that was listed, but for these names. Since [`VERSION_AGREED`](super::VERSION_AGREED).
    Agreed {
        /// Number of the pass.
        pass: PassId,
        /// The directory.
        dir: RelPath,
        /// Names in it that differ, or below which something does.
        except: Vec<serde_bytes::ByteBuf>,
    },
    /// The tree is as the source: every entry is equal, kept aside or told as a problem, and acknowledged. Since
    /// [`VERSION_ROLES`](super::VERSION_ROLES).
    InStep,
    /// Up to when the target has everything of the source: of what was acknowledged. Since
    /// [`VERSION_MARKED`](super::VERSION_MARKED).
    Watermark(Box<Watermark>),
    /// What primary and standby hold, should they ever go apart: of what was acknowledged, and behind
    /// [`InStep`](Self::InStep) alone. Since [`VERSION_ROLES`](super::VERSION_ROLES).
    Cut(Cut),
    /// First message of a target that pulls, to an agent that is to send. Both sides speak of other things from here
    /// on: [`ToFar`](super::ToFar), of which the first ones hold the order, and [`FromFar`](super::FromFar).
    Wanted {
        /// The form of the order: [`PULL_EDITION`](super::PULL_EDITION).
        edition: u32,
        /// Bytes of the [`PullOrder`](super::PullOrder).
        len: u64,
    },
    /// What follows for a pass is about one of the directories beside the root. Since
    /// [`VERSION_BESIDE`](super::VERSION_BESIDE), as what follows.
    Beside {
        /// Number of the pass, which has not begun.
        pass: PassId,
        /// Which directory of [`Hello::beside`].
        which: u8,
    },
    /// What stands under the same path in a directory beside the root, else [`Why::Torn`]: a link to it if it has these
    /// attributes, or a copy that gets them.
    Borrow {
        /// The path.
        path: RelPath,
        /// Which directory of [`Hello::beside`].
        which: u8,
        /// It becomes a link, if that can be made.
        link: bool,
        /// What it is like.
        attrs: Attrs,
        /// What must stand there.
        expect: Expect,
    },
    /// As [`ToReceiver::Sign`], of what stands under the path in a directory beside the root.
    SignBeside {
        /// The stream to be.
        stream: StreamId,
        /// The path.
        path: RelPath,
        /// Which directory of [`Hello::beside`].
        which: u8,
    },
    /// What became of [`ToSender::HandOver`]. Since [`VERSION_HAND_OVER`](super::VERSION_HAND_OVER).
    Handing(Handing),
    /// Everything up to this mark of the source is on the target. Since [`VERSION_POSITION`](super::VERSION_POSITION).
    Position(Mark),
}

/// Why an operation was not done, where doing something else helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// What stands there is not what was expected, or nothing does.
    Differs,
    /// The parent directory is missing.
    NoParent,
    /// A directory that is to go, or to be replaced, holds entries.
    NotEmpty,
    /// What arrived has another hash than what was read.
    Torn,
}

/// What an answer is about. A path would not tell: by the time of the answer it may be another file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// An operation.
    Operation(OperationId),
    /// A file in flight that was not closed yet.
    Stream(StreamId),
}

/// One piece of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Number of the pass.
    pub pass: PassId,
    /// The directory.
    pub dir: RelPath,
    /// Entries in the order of their names.
    pub entries: Vec<Entry>,
    /// Whether this is the last piece.
    pub last: bool,
    /// Why there is no listing, as errno; 0 if there is one.
    pub errno: i32,
}

/// From the receiver to the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSender<'a> {
    /// The session is accepted.
    Hello(Box<ReplyHello>),
    /// The session is refused.
    Refused(Refusal),
    /// What the owners that were asked for are.
    Owners(Owners),
    /// Everything up to this commit is durable.
    Acked {
        /// Number of the commit.
        batch: BatchId,
    },
    /// An operation on a path failed; the others go on. [`ToSender::Failed`] has taken its place.
    Problem {
        /// The path.
        path: RelPath,
        /// What failed, as one verb.
        #[serde(borrow)]
        operation: Cow<'a, str>,
        /// The errno.
        errno: i32,
    },
    /// An operation was not done; the sender looks again. [`ToSender::NotDone`] has taken its place.
    Undone {
        /// The path.
        path: RelPath,
        /// Why.
        why: Why,
    },
    /// A piece of the signature of a basis.
    Signature {
        /// The stream.
        stream: StreamId,
        /// Bytes of the basis.
        size: u64,
        /// Block length in bytes.
        block_len: u32,
        /// Signature bytes.
        #[serde(borrow, with = "serde_bytes")]
        data: Cow<'a, [u8]>,
        /// Whether this is the last piece.
        last: bool,
    },
    /// A stream has failed, as was answered for its path; what still comes for it is ignored.
    Stopped {
        /// The stream.
        stream: StreamId,
    },
    /// There is no basis for a stream.
    NoBasis {
        /// The stream.
        stream: StreamId,
    },
    /// Result of a walk.
    Scanned {
        /// Number of the pass.
        pass: PassId,
        /// The top itself; `None` if it does not exist.
        top: Option<Box<Entry>>,
        /// Digest over the groups of hard links.
        links: Digest,
        /// How many entries the subtree holds, the top not counted.
        entries: u64,
        /// Entries that could not be read.
        problems: Vec<(RelPath, i32)>,
    },
    /// A listing.
    Listing(Listing),
    /// Groups of hard links, in pieces.
    Links {
        /// Number of the pass.
        pass: PassId,
        /// Names of one file each.
        groups: Vec<Vec<RelPath>>,
        /// Whether this is the last piece.
        last: bool,
    },
    /// BLAKE3 of a file; `None` if it cannot be read.
    Hashed {
        /// Number of the pass.
        pass: PassId,
        /// The hash.
        hash: Option<[u8; 32]>,
    },
    /// Something of a stranger's was set aside instead of removed.
    SetAside {
        /// The path.
        path: RelPath,
    },
    /// Answer to a ping.
    Pong(u64),
    /// The agent cannot go on; why.
    Fatal(#[serde(borrow)] Cow<'a, str>),
    /// What the target is like.
    Examined(Box<Examination>),
    /// Files of which something has arrived before, by [`partial_mark`](super::partial_mark).
    Partials(Vec<[u8; 16]>),
    /// What has arrived of a file before.
    Partial {
        /// The stream to be.
        stream: StreamId,
        /// Bytes of a chunk.
        chunk_len: u32,
        /// BLAKE3 of each whole chunk, one after the other.
        #[serde(borrow, with = "serde_bytes")]
        hashes: Cow<'a, [u8]>,
    },
    /// Entries that are kept or were put back, in pieces.
    Kept {
        /// The entries.
        entries: Vec<KeptEntry>,
        /// Whether this is the last piece.
        last: bool,
    },
    /// Where further connections may join; none where there can be none.
    Places(Vec<serde_bytes::ByteBuf>),
    /// This connection has joined.
    Joined,
    /// Besides what is put back, in pieces. Since [`VERSION_RESTORE`](super::VERSION_RESTORE).
    AsItWas {
        /// What was put into the trash, since nothing was there at that moment.
        gone: Vec<KeptEntry>,
        /// More paths that are by now as they were at that moment.
        already: u64,
    },
    /// An operation failed; the others go on. Since [`VERSION_NUMBERED`](super::VERSION_NUMBERED), as what
    /// follows.
    Failed {
        /// Which.
        of: Subject,
        /// What failed, as one verb.
        #[serde(borrow)]
        operation: Cow<'a, str>,
        /// The errno.
        errno: i32,
    },
    /// An operation was not done; the sender looks again.
    NotDone {
        /// Which.
        of: Subject,
        /// Why.
        why: Why,
    },
    /// The standby is being promoted, and asks its primary to hand over. Since
    /// [`VERSION_HAND_OVER`](super::VERSION_HAND_OVER).
    HandOver(Box<HandOver>),
}

#[cfg(test)]
mod tests;
