//! Fixed owners in the form of rsync's `--chown`.

/// A parsed `--chown` value: `USER`, `USER:GROUP`, `USER:` or `:GROUP`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chown {
    /// Who owns everything on the target.
    pub user: Option<Owner>,
    /// Which group everything there has.
    pub group: Option<Owner>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// By number.
    Number(u32),
    /// By name, which the target looks up.
    Name(String),
}

/// Why a `--chown` value does not parse. Consequence: die; a usage error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChownError {
    /// It names nobody, or more than a user and a group.
    #[error("expected USER, USER:GROUP or :GROUP")]
    Form,
    /// No pairs of whom and to whom.
    #[error(
        "expected FROM:TO pairs with commas between them; FROM may be a name with * and ?, a number or LOW-HIGH"
    )]
    Pair,
    /// A number that no user and no group can have.
    #[error("no user and no group can have the number {0}")]
    Number(String),
}

impl Chown {
    /// Parses a value. What consists of digits alone is a number, all else a name.
    ///
    /// # Errors
    /// [`ChownError`].
    pub fn parse(text: &str) -> Result<Self, ChownError> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if (user.is_empty() && group.is_empty()) || group.contains(':') {
            return Err(ChownError::Form);
        }
        let owner = |text: &str| (!text.is_empty()).then(|| Owner::parse(text)).transpose();
        Ok(Self { user: owner(user)?, group: owner(group)? })
    }
}

impl Owner {
    pub(super) fn parse(text: &str) -> Result<Self, ChownError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text.to_owned()));
        }
        // The highest number says "leave it" to chown(2).
        let number = text.parse().ok().filter(|&number| number != u32::MAX);
        number.map(Self::Number).ok_or_else(|| ChownError::Number(text.to_owned()))
    }

    /// Returns the name, if it is given by name.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Number(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_alone_are_a_number_and_all_else_is_a_name() {
        let parse = |text: &str| Chown::parse(text).unwrap();
        let name = |text: &str| Some(Owner::Name(text.to_owned()));
        assert_eq!(parse("www-data"), Chown { user: name("www-data"), group: None });
        assert_eq!(
            parse("0:4294967294"),
            Chown { user: Some(Owner::Number(0)), group: Some(Owner::Number(u32::MAX - 1)) }
        );
        assert_eq!(parse(":www"), Chown { user: None, group: name("www") });
        for odd in ["nobody.nogroup", "0x10", "-1", "+5", "1-3", "*"] {
            assert_eq!(parse(odd).user, name(odd), "{odd}");
        }
        for bad in ["", ":", "a:b:c", "99999999999", "4294967295", "a:4294967295"] {
            assert!(Chown::parse(bad).is_err(), "{bad}");
        }
    }
}
