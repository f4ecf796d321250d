//! Mode changes in the form of chmod(1), with rsync's `D` and `F` prefixes (`--chmod`).

/// A parsed `--chmod` value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chmod(Vec<Clause>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    dirs: bool,
    files: bool,
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Octal(u32),
    Symbolic { who: u32, operator: u8, perms: Vec<u8> },
}

/// Why a `--chmod` value does not parse. Consequence: die; a usage error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid --chmod clause {0:?}")]
pub struct ChmodError(String);

impl Chmod {
    /// Parses comma-separated clauses such as `D755`, `F644`, `u+rwX`, `go-w`.
    ///
    /// # Errors
    /// [`ChmodError`] naming the clause.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        text.split(',').filter(|clause| !clause.is_empty()).map(clause).collect::<Result<_, _>>().map(Self)
    }

    /// Adds the clauses of another value behind these.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what `mode` becomes for a directory or another file.
    pub fn apply(&self, mode: u32, dir: bool) -> u32 {
        let fitting = self.0.iter().filter(|clause| if dir { clause.dirs } else { clause.files });
        fitting.fold(mode, |mode, clause| match &clause.change {
            Change::Octal(octal) => *octal,
            Change::Symbolic { who, operator, perms } => symbolic(mode, dir, *who, *operator, perms),
        })
    }
}

fn clause(text: &str) -> Result<Clause, ChmodError> {
    let bad = || ChmodError(text.to_owned());
    let (dirs, files, rest) = match text.as_bytes().first() {
        Some(b'D') => (true, false, &text[1..]),
        Some(b'F') => (false, true, &text[1..]),
        _ => (true, true, text),
    };
    if rest.starts_with(|c: char| c.is_ascii_digit()) {
        let octal = u32::from_str_radix(rest, 8).ok().filter(|&octal| octal <= 0o7777).ok_or_else(bad)?;
        return Ok(Clause { dirs, files, change: Change::Octal(octal) });
    }
    let at = rest.find(['+', '-', '=']).ok_or_else(bad)?;
    let mut who = 0;
    for c in rest[..at].chars() {
        who |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return Err(bad()),
        };
    }
    let perms = rest.as_bytes()[at + 1..].to_vec();
    if perms.iter().any(|perm| !b"rwxXst".contains(perm)) {
        return Err(bad());
    }
    let who = if who == 0 { 0o7777 } else { who };
    Ok(Clause { dirs, files, change: Change::Symbolic { who, operator: rest.as_bytes()[at], perms } })
}

fn symbolic(mode: u32, dir: bool, who: u32, operator: u8, perms: &[u8]) -> u32 {
    let bits = perms.iter().fold(0, |bits, perm| {
        bits | match perm {
            b'r' => 0o444,
            b'w' => 0o222,
            b'x' => 0o111,
            b'X' if dir || mode & 0o111 != 0 => 0o111,
            b's' => 0o6000,
            b't' => 0o1000,
            _ => 0,
        }
    }) & who;
    match operator {
        b'+' => mode | bits,
        b'-' => mode & !bits,
        _ => mode & !(who & 0o777) | bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_apply_in_order_to_what_they_name() {
        let chmod = |text: &str, mode, dir| Chmod::parse(text).unwrap().apply(mode, dir);
        assert_eq!(chmod("D755,F644", 0o700, true), 0o755);
        assert_eq!(chmod("D755,F644", 0o700, false), 0o644);
        assert_eq!(chmod("u+rwX,go-w", 0o466, false), 0o644);
        assert_eq!(chmod("a+X", 0o644, false), 0o644);
        assert_eq!(chmod("a+X", 0o744, false), 0o755);
        assert_eq!(chmod("Dg+s", 0o755, true), 0o2755);
        assert_eq!(chmod("go=", 0o777, false), 0o700);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["u", "q+r", "u+z", "99", "77777"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
