//! The versions of the protocol, and what each brought.

/// Newest version of the protocol that this build speaks.
///
/// | version | brought |
/// |---|---|
/// | 1 | everything but the following |
/// | 2 | [`ToReceiver::State`](super::ToReceiver::State); [`Hello::terms`](super::Hello::terms), what is kept, and putting it back |
/// | 3 | [`ToReceiver::Duplicate`](super::ToReceiver::Duplicate) |
/// | 4 | several connections: [`ToReceiver::Widen`](super::ToReceiver::Widen) and what follows |
/// | 5 | a listing of a target names what stays there; [`ToReceiver::Restore`](super::ToReceiver::Restore); [`Hello::origin`](super::Hello::origin), [`ToReceiver::Upstream`](super::ToReceiver::Upstream), [`Refusal::Circle`](super::Refusal::Circle); [`ToReceiver::Agreed`](super::ToReceiver::Agreed); [`Hello::before`](super::Hello::before); [`Hello::makes`](super::Hello::makes); a session that is refused while it runs; [`Hello::role`](super::Hello::role), [`ToReceiver::InStep`](super::ToReceiver::InStep), [`ToReceiver::Cut`](super::ToReceiver::Cut); answers that name the number of an operation; [`ToReceiver::Watermark`](super::ToReceiver::Watermark), [`ReplyHello::watermark`](super::ReplyHello::watermark); [`Hello::beside`](super::Hello::beside) and what follows; [`ToSender::HandOver`](super::ToSender::HandOver), [`ToReceiver::Handing`](super::ToReceiver::Handing); [`ToReceiver::Position`](super::ToReceiver::Position) |
///
/// A message is added at the end of its enum and sent to a peer of its version or newer alone; a field is
/// added at the end of the hello, where older peers do not read it.
pub const VERSION: u32 = 5;
/// First version in which the sender states how it does.
pub const VERSION_STATE: u32 = 2;
/// First version in which a receiver keeps what it removes and replaces.
pub const VERSION_KEPT: u32 = 2;
/// First version in which a receiver takes content from another file of its own.
pub const VERSION_DUPLICATE: u32 = 3;
/// First version in which a session may go over several connections.
pub const VERSION_BUNDLE: u32 = 4;
/// First version in which a listing of a target names what a filter protects and what the mirror does not keep.
pub const VERSION_STAYS: u32 = 5;
/// First version in which an undo can be planned, and tells what it takes away.
pub const VERSION_RESTORE: u32 = 5;
/// First version in which a sender says where it comes from.
pub const VERSION_ORIGIN: u32 = 5;
/// First version in which the sender says what it found to be equal, and what the target was on before; a
/// running session is refused by name.
pub const VERSION_AGREED: u32 = 5;
/// First version in which both sides tell of the roles of their trees.
pub const VERSION_ROLES: u32 = 5;
/// First version in which answers name the number of an operation, not a path.
pub const VERSION_NUMBERED: u32 = 5;
/// First version in which the sender states up to when the target has everything.
pub const VERSION_MARKED: u32 = 5;
/// First version in which a receiver takes what it lacks from directories beside its root.
pub const VERSION_BESIDE: u32 = 5;
/// First version in which a standby that is being promoted asks its primary to hand over.
pub const VERSION_HAND_OVER: u32 = 5;
/// First version in which a target is told which marks of the source it has reached.
pub const VERSION_POSITION: u32 = 5;
/// Oldest version that it still speaks.
pub const VERSION_MIN: u32 = 1;
