//! What a sender and a receiver say to each other.
//!
//! **Purpose:** the handshake, the messages, their framing and their limits. Pure: it reads from and
//! writes to whatever it is given.
//! **In → Out:** [`ToReceiver`] and [`ToSender`] values ⇄ bytes.
//! **Invariants:** every length is checked before anything is allocated for it; a frame holds one
//! message; paths are checked [`RelPath`](crate::tree::RelPath)s as soon as they are decoded.
//! **Not here:** what a message makes anybody do (`sender`, `receiver`).
//!
//! Both sides open with [`MAGIC`] and their hello, so that what a login shell prints on standard
//! output is recognised for what it is.

mod bundle;
mod confinement;
mod examination;
mod frame;
mod handshake;
mod keeping;
mod message;
mod origin;
mod owners;
mod paths;
mod place;
mod position;
mod pull;
mod roles;
mod version;
mod volume;
mod watermark;

pub use bundle::{PIECE_HEADER_LEN, PIECE_LEN_MAX, parse_piece_header, piece_header};
pub use confinement::Confinement;
pub use examination::{Examination, Stated};
pub use frame::{Block, BlockPacker, FRAME_LEN_MAX, FrameError, FrameReader, FrameWriter, MAGIC, read_magic};
pub use handshake::{Hello, Identified, Limits, NESTING_MAX, Refusal, ReplyHello, StateMode};
pub use keeping::{Errand, Keeping, KeptEntry, Order, Since, Terms, TrashLimits, partial_mark};
pub use message::{
    BatchId, Expect, Listing, OperationId, PassId, ScanOptions, StreamId, Subject, ToReceiver, ToSender, Why,
};
pub use origin::{CHAIN_MAX, FORMER_MAX, HOLDER_FILE, Holder, Origin, Tree, circle};
pub use owners::{OwnerNames, Owners};
pub use place::RootPlace;
pub use position::{Mark, NoPosition, Position, Reached};
pub use pull::{
    Account, Arrival, Failure, FromFar, Live as PullLive, Means, ORDER_LEN_MAX, Order as PullOrder,
    PULL_EDITION, PULL_PIECE_MAX, ToFar, Unsent, Word,
};
pub use roles::{Cut, HandOver, Handing, RoleAnswer, RoleTold, UpTo};
pub use version::{
    VERSION, VERSION_AGREED, VERSION_BESIDE, VERSION_BUNDLE, VERSION_DUPLICATE, VERSION_HAND_OVER,
    VERSION_KEPT, VERSION_MARKED, VERSION_MIN, VERSION_NUMBERED, VERSION_ORIGIN, VERSION_POSITION,
    VERSION_RESTORE, VERSION_ROLES, VERSION_STATE, VERSION_STAYS,
};
pub use volume::{Lost, Volume};
pub use watermark::{Ground, Settled, Watermark};
