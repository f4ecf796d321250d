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
    Symbolic { who: Who, operator: u8, perms: Vec<u8> },
}

/// Whose bits a clause changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Who {
    /// The read, write and execute bits that may be set or cleared.
    bits: u32,
    /// Those that `=` clears first.
    whole: u32,
    /// The set-id bits that `s` means.
    set_id: u32,
}

/// Why a `--chmod` value does not parse. Consequence: die; a usage error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid --chmod clause {0:?}")]
pub struct ChmodError(String);

impl Chmod {
    /// Parses comma-separated clauses such as `D755`, `F644`, `u+rwX`, `g=u`. A clause that names none of u, g,
    /// o and a heeds `umask`.
    ///
    /// # Errors
    /// [`ChmodError`] naming the clause.
    pub fn parse(text: &str, umask: u32) -> Result<Self, ChmodError> {
        let clauses = text.split(',').filter(|text| !text.is_empty());
        clauses.map(|text| clause(text, umask)).collect::<Result<_, _>>().map(Self)
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
        // What `X` asks is whether the source's file may be executed, whatever a clause before has done.
        let runs = dir || mode & 0o111 != 0;
        fitting.fold(mode, |mode, clause| match &clause.change {
            Change::Octal(octal) => *octal,
            Change::Symbolic { who, operator, perms } => symbolic(mode, runs, *who, *operator, perms),
        })
    }
}

fn clause(text: &str, umask: u32) -> Result<Clause, ChmodError> {
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
    let (mut bits, mut set_id) = (0, 0);
    for c in rest[..at].chars() {
        (bits, set_id) = match c {
            'u' => (bits | 0o700, set_id | 0o4000),
            'g' => (bits | 0o070, set_id | 0o2000),
            'o' => (bits | 0o007, set_id),
            'a' => (bits | 0o777, set_id | 0o6000),
            _ => return Err(bad()),
        };
    }
    let perms = rest.as_bytes()[at + 1..].to_vec();
    let copies = matches!(perms.as_slice(), [b'u' | b'g' | b'o']);
    if !copies && perms.iter().any(|perm| !b"rwxXst".contains(perm)) {
        return Err(bad());
    }
    let named = bits != 0;
    let who = Who {
        bits: if named { bits } else { 0o777 & !umask },
        // A copy leaves no set-id bits of those who get it.
        whole: if named { bits | if copies { set_id } else { 0 } } else { 0o777 },
        // As with rsync, where neither user nor group is named.
        set_id: if set_id == 0 { 0o4000 } else { set_id },
    };
    Ok(Clause { dirs, files, change: Change::Symbolic { who, operator: rest.as_bytes()[at], perms } })
}

fn symbolic(mode: u32, runs: bool, who: Who, operator: u8, perms: &[u8]) -> u32 {
    let bits = perms.iter().fold(0, |bits, perm| {
        bits | match perm {
            b'r' => 0o444 & who.bits,
            b'w' => 0o222 & who.bits,
            b'x' => 0o111 & who.bits,
            b'X' if runs => 0o111 & who.bits,
            b's' => who.set_id,
            b't' => 0o1000,
            // The same for everybody as one of them has.
            b'u' => ((mode >> 6 & 0o7) * 0o111) & who.bits,
            b'g' => ((mode >> 3 & 0o7) * 0o111) & who.bits,
            b'o' => ((mode & 0o7) * 0o111) & who.bits,
            _ => 0,
        }
    });
    match operator {
        b'+' => mode | bits,
        b'-' => mode & !bits,
        _ => mode & !who.whole | bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_apply_in_order_to_what_they_name() {
        let chmod = |text: &str, mode, dir| Chmod::parse(text, 0o022).unwrap().apply(mode, dir);
        assert_eq!(chmod("D755,F644", 0o700, true), 0o755);
        assert_eq!(chmod("D755,F644", 0o700, false), 0o644);
        assert_eq!(chmod("u+rwX,go-w", 0o466, false), 0o644);
        assert_eq!(chmod("a+X", 0o644, false), 0o644);
        assert_eq!(chmod("a+X", 0o744, false), 0o755);
        assert_eq!(chmod("Dg+s", 0o755, true), 0o2755);
        assert_eq!(chmod("go=", 0o777, false), 0o700);
        assert_eq!(chmod("go=u", 0o2640, false), 0o666);
    }

    #[test]
    fn a_clause_for_nobody_heeds_the_umask() {
        let chmod = |text: &str, umask| Chmod::parse(text, umask).unwrap().apply(0o640, false);
        assert_eq!((chmod("+w", 0o022), chmod("a+w", 0o022), chmod("+w", 0)), (0o640, 0o662, 0o662));
        assert_eq!((chmod("=r", 0o077), chmod("-r", 0o077)), (0o400, 0o240));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["u", "q+r", "u+z", "99", "77777", "u=gr", "DFu+x", "u+r-w"] {
            assert!(Chmod::parse(bad, 0).is_err(), "{bad}");
        }
    }
}
