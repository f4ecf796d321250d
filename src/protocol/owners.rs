//! Owners, by name and by number.

use serde::{Deserialize, Serialize};

/// Names of owners, for the receiver to say what they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerNames {
    /// User id on the source, name.
    pub users: Vec<(u32, String)>,
    /// Group id on the source, name.
    pub groups: Vec<(u32, String)>,
}

/// What owners of the source are on the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Id on the source, id on the target.
    pub users: Vec<(u32, u32)>,
    /// Id on the source, id on the target.
    pub groups: Vec<(u32, u32)>,
}
