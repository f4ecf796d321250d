//! Where a session comes from, for a receiver that has to judge whether it may take it.

use serde::{Deserialize, Serialize};

/// Most former identities that a hello carries.
pub const FORMER_MAX: usize = 32;

/// What a sender says of itself besides; one that says nothing of it is an older one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Identities that earlier versions gave this mirror, which depended on how its paths were written. A
    /// tree that carries one of them is this mirror's, and takes the present one.
    pub former: Vec<[u8; 16]>,
}

/// Reads what may be missing at the end of a hello.
pub(super) fn origin_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Origin, D::Error> {
    let mut origin = Origin::deserialize(from).unwrap_or_default();
    origin.former.truncate(FORMER_MAX);
    Ok(origin)
}
