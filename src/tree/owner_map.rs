//! Owners that are others on the target, in the form of rsync's `--usermap` and `--groupmap`.

use super::chown::{Chown, ChownError, Owner};

/// Whose files are given to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// Everybody's.
    Any,
    /// Numbers from the first to the second.
    Numbers(u32, u32),
    /// Who has no name on the source.
    Nameless,
    /// Who has this name there, in which `*` and `?` stand for any.
    Named(String),
}

/// A parsed `--usermap` or `--groupmap`: the first pair that fits decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerMap {
    pairs: Vec<(Who, Owner)>,
}

/// Who owns what on the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owning {
    /// Users.
    pub users: OwnerMap,
    /// Groups.
    pub groups: OwnerMap,
}

impl OwnerMap {
    /// Parses `FROM:TO,FROM:TO`: FROM is a name, in which `*` and `?` stand for any, a number, `LOW-HIGH`, or nothing for
    /// who has no name; TO is a name or a number.
    ///
    /// # Errors
    /// [`ChownError`].
    pub fn parse(text: &str) -> Result<Self, ChownError> {
        let pair = |pair: &str| {
            let (from, to) = pair.split_once(':').filter(|(_, to)| !to.is_empty()).ok_or(ChownError::Pair)?;
            Ok((Who::parse(from)?, Owner::parse(to)?))
        };
        Ok(Self { pairs: text.split(',').map(pair).collect::<Result<_, _>>()? })
    }

    /// Returns the owner that everything gets.
    fn all(owner: Owner) -> Self {
        Self { pairs: vec![(Who::Any, owner)] }
    }

    /// Whether nobody's files are given to somebody else.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns who gets what belongs to `id`, and the number of the pair that says so; `name` is asked for its name.
    pub fn find(&self, id: u32, name: impl FnOnce() -> Option<String>) -> Option<(usize, &Owner)> {
        let name = std::cell::LazyCell::new(name);
        let fits = |who: &Who| match who {
            Who::Any => true,
            Who::Numbers(low, high) => (*low..=*high).contains(&id),
            Who::Nameless => name.is_none(),
            Who::Named(pattern) => {
                name.as_ref().is_some_and(|name| matches(pattern.as_bytes(), name.as_bytes()))
            }
        };
        self.pairs.iter().enumerate().find(|(_, (who, _))| fits(who)).map(|(at, (_, to))| (at, to))
    }

    /// Returns the names that the target is to look up, each with the number of its pair.
    pub fn names(&self) -> impl Iterator<Item = (usize, &str)> {
        self.pairs.iter().enumerate().filter_map(|(at, (_, to))| Some((at, to.name()?)))
    }
}

impl From<Chown> for Owning {
    fn from(chown: Chown) -> Self {
        let map = |owner: Option<Owner>| owner.map(OwnerMap::all).unwrap_or_default();
        Self { users: map(chown.user), groups: map(chown.group) }
    }
}

impl Who {
    fn parse(text: &str) -> Result<Self, ChownError> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<u32>().map_err(|_| ChownError::Number(text.to_owned()));
        Ok(match text.split_once('-') {
            _ if text == "*" => Self::Any,
            _ if text.is_empty() => Self::Nameless,
            _ if text.contains(['[', '\\']) => return Err(ChownError::Pair),
            Some((low, high)) if digits(low) && digits(high) => Self::Numbers(number(low)?, number(high)?),
            _ if digits(text) => Self::Numbers(number(text)?, number(text)?),
            _ => Self::Named(text.to_owned()),
        })
    }
}

/// Whether a pattern of letters, `*` and `?` matches all of a name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            (0..=name.len()).any(|from| matches(rest, name.get(from..).unwrap_or_default()))
        }
        (Some((b'?', pattern)), Some((_, name))) => matches(pattern, name),
        (Some((one, pattern)), Some((other, name))) => one == other && matches(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pair_that_fits_decides() {
        let map = OwnerMap::parse("0-99:nobody,www*:33,:44,joe:ann,*:7").unwrap();
        let find = |id: u32, name: Option<&str>| map.find(id, || name.map(str::to_owned)).unwrap();
        assert_eq!(find(5, Some("bin")), (0, &Owner::Name("nobody".into())));
        assert_eq!(find(300, Some("www-data")), (1, &Owner::Number(33)));
        assert_eq!(find(300, None), (2, &Owner::Number(44)));
        assert_eq!(find(300, Some("joe")), (3, &Owner::Name("ann".into())));
        assert_eq!(find(300, Some("eve")), (4, &Owner::Number(7)));
        assert_eq!(map.names().map(|(at, _)| at).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(OwnerMap::parse("a:b").unwrap().find(1, || Some("ab".into())), None);
        for bad in ["", "a", "a:", "a:b,", "[a]:b", "99999999999:1"] {
            assert!(OwnerMap::parse(bad).is_err(), "{bad}");
        }
    }
}
