//! What the agent has taken away from itself.

use serde::{Deserialize, Serialize};

/// How far the agent has confined itself to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// Nothing outside the root can be opened, no program started, no socket bound; tried out.
    Landlock,
    /// The kernel has no Landlock, or one that is too old (before 5.19).
    Missing,
    /// The kernel took the rules, and a file outside the root could be opened all the same.
    Toothless,
    /// It was told not to.
    Off,
    /// An agent that does not say.
    Untold,
}

/// Reads what may be missing at the end of a greeting.
pub(super) fn told_or_not<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Confinement, D::Error> {
    Ok(Confinement::deserialize(from).unwrap_or(Confinement::Untold))
}

impl Confinement {
    /// Returns it in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Landlock => "confined to its root by Landlock",
            Self::Missing => "not confined: its kernel has no Landlock of 5.19 or later",
            Self::Toothless => "not confined: Landlock is there and does not bite",
            Self::Off => "not confined, as it was told",
            Self::Untold => "too old to confine itself",
        }
    }

    /// Returns the words that mean what these do: what the other side says is shown in no words of its own.
    pub fn known_words(words: &str) -> &'static str {
        let all = [Self::Landlock, Self::Missing, Self::Toothless, Self::Off, Self::Untold];
        all.map(Self::words).into_iter().find(|known| *known == words).unwrap_or("not known to be confined")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Greeting {
        number: u8,
        #[serde(deserialize_with = "told_or_not")]
        confinement: Confinement,
    }

    #[test]
    fn a_greeting_that_ends_before_it_is_one_that_does_not_say() {
        let new = Greeting { number: 7, confinement: Confinement::Landlock };
        let bytes = postcard::to_stdvec(&new).unwrap();
        assert_eq!(postcard::from_bytes::<Greeting>(&bytes).unwrap(), new);
        let old: Greeting = postcard::from_bytes(&bytes[..1]).unwrap();
        assert_eq!(old, Greeting { number: 7, confinement: Confinement::Untold });
    }
}
