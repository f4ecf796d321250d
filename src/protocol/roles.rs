//! What both sides tell each other of the roles of their trees.
//!
//! **In → Out:** the text of `.speil/role`, which has a check of its own; what it means is for `role` to say.
//! **Invariants:** everything in it is bounded, whoever wrote it.

use serde::{Deserialize, Serialize};

/// Longest name of a host, in bytes.
const HOST_LEN_MAX: usize = 255;
/// Most starts that are told.
const HELD_MAX: usize = 64;

/// What a side tells of its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleTold {
    /// What people call its host.
    pub host: String,
    /// Its `.speil/role`.
    pub record: String,
    /// By starts of primaries, up to which moment of each the tree has everything; the latest start last.
    pub held: Vec<UpTo>,
}

/// A start of a primary's daemon, and a moment of it in nanoseconds since its host was booted.
pub type UpTo = ([u8; 16], u64);

/// A primary's statement on a standby that is in step: what both hold, should they ever go apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The start of the primary's daemon.
    pub of: [u8; 16],
    /// The standby has everything that was changed before this moment.
    pub until: u64,
    /// What it has was read before this moment.
    pub read: u64,
}

/// What a receiver answers a sender that tells of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAnswer {
    /// What it tells of its own tree; `None` if that has no role.
    pub told: Option<RoleTold>,
    /// Everything that the session removes or replaces is kept aside first.
    pub adopts: bool,
    /// In an adoption: up to where both trees held the same; `None` if nothing is known to be.
    pub cut: Option<UpTo>,
}

/// A standby that is being promoted asks its primary to hand over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// What it tells of its tree, with the identity of the coming generation.
    pub told: RoleTold,
    /// In so many milliseconds it goes on without an answer: nothing is handed over later.
    pub limit_ms: u64,
    /// What is to be verified need not be.
    pub leaves_doubts: bool,
}

/// What a primary answers to it, the last one being none that says [`Handing::Under`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handing {
    /// It is under way.
    Under {
        /// Files that are to be verified first.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The primary goes on leading.
    Refused {
        /// Why, in one line.
        line: String,
        /// What may be typed, and where; empty if nothing helps.
        hint: String,
    },
    /// It leads no more, and everything that it had is acknowledged. `true`: both trees hold the same.
    Done(bool),
}

/// Reads what may be missing at the end of a hello.
pub(super) fn role_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<RoleTold>, D::Error> {
    Ok(Option::<RoleTold>::deserialize(from).unwrap_or(None).map(bounded))
}

/// Reads what may be missing at the end of a greeting.
pub(super) fn answer_or_none<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<RoleAnswer>, D::Error> {
    let answer = Option::<RoleAnswer>::deserialize(from).unwrap_or(None);
    Ok(answer.map(|answer| RoleAnswer { told: answer.told.map(bounded), ..answer }))
}

fn bounded(mut told: RoleTold) -> RoleTold {
    while told.host.len() > HOST_LEN_MAX {
        told.host.pop();
    }
    told.held.truncate(HELD_MAX);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Hello {
        number: u8,
        #[serde(deserialize_with = "role_or_none")]
        role: Option<RoleTold>,
    }

    #[test]
    fn a_hello_that_ends_before_its_role_tells_of_none_and_a_long_name_is_cut() {
        let told =
            |host: &str| Some(RoleTold { host: host.to_owned(), record: "r".to_owned(), held: Vec::new() });
        let bytes = postcard::to_stdvec(&Hello { number: 7, role: told(&"é".repeat(999)) }).unwrap();
        let read: Hello = postcard::from_bytes(&bytes).unwrap();
        assert!(read.role.is_some_and(|told| told.host.len() <= HOST_LEN_MAX));
        let old: Hello = postcard::from_bytes(&bytes[..1]).unwrap();
        assert_eq!(old, Hello { number: 7, role: None });
    }
}
