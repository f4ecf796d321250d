//! Which speil a target has: the installed one, and the copies that were uploaded.
//!
//! **Invariants:** only files that an upload may have made are listed or removed, by names of 32 hex digits; the copy
//! of this very program is never removed, and a copy that runs goes on running.

use super::deploy::{DIR, own_hash};
use super::shell::{self, Shell};
use super::{Ended, TransportError};

/// What the line prints first: a host whose key allows the agent alone runs something else.
const MARK: &str = "speil-copies";
/// Most that a target may print, in bytes.
const PRINTED_MAX: u64 = 64 << 10;
/// Digits of a copy's name.
const DIGITS: usize = 32;

/// An uploaded copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCopy {
    /// Its file's name, below `~/.cache/speil`.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it says that it is; empty if it does not start.
    pub version: String,
    /// Whether it is this very program.
    pub own: bool,
    /// Whether it was removed just now.
    pub removed: bool,
}

/// Which speil a target has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies {
    /// What the installed one says that it is, if there is one.
    pub installed: Option<String>,
    /// Those that were uploaded.
    pub uploaded: Vec<AgentCopy>,
}

/// Asks a target; with `remove` the copies are removed that are not of this program.
pub(super) fn ask(target: &impl Shell, remove: bool) -> Result<Copies, TransportError> {
    let own = own_hash().map_err(|text| TransportError::Deploy(text.to_owned()))?;
    let script = format!(
        "echo {MARK}; command -v speil >/dev/null 2>&1 && echo \"installed $(speil --version 2>/dev/null | head -n 1)\"; \
         cd \"$HOME/{DIR}\" 2>/dev/null || exit 0; for f in speil-*; do test -f \"$f\" && \
         echo \"copy $f $(wc -c <\"$f\") $(\"./$f\" --version 2>/dev/null | head -n 1)\"; done; exit 0"
    );
    let (ended, printed) = shell::output(target, &format!("exec sh -c '{script}'"), PRINTED_MAX)?;
    let mut copies = read(&String::from_utf8_lossy(&printed), own).ok_or_else(|| refused(&ended))?;
    let old: Vec<&str> =
        copies.uploaded.iter().filter(|copy| !copy.own).map(|copy| copy.name.as_str()).collect();
    if !remove || old.is_empty() {
        return Ok(copies);
    }
    // The names are of hex digits alone.
    let script = format!("exec sh -c 'cd \"$HOME/{DIR}\" && rm -f {}'", old.join(" "));
    let ended = shell::run(target, &script, b"")?;
    if ended.status != Some(0) {
        let last = ended.stderr.last().map_or("rm failed", String::as_str);
        return Err(TransportError::Deploy(format!("remove old copies: \"{last}\"")));
    }
    copies.uploaded.iter_mut().for_each(|copy| copy.removed = !copy.own);
    Ok(copies)
}

fn refused(ended: &Ended) -> TransportError {
    TransportError::Connect(match (ended.status, ended.stderr.last()) {
        (Some(255), Some(last)) => last.clone(),
        _ => {
            "the login runs no shell: its key may allow the agent alone, and then nothing was uploaded there"
                .to_owned()
        }
    })
}

/// Reads what a target printed; `None` if it did not run the line.
fn read(printed: &str, own: &str) -> Option<Copies> {
    let mut copies = Copies::default();
    // A login may print something before.
    let mut lines = printed.lines().skip_while(|line| *line != MARK);
    lines.next()?;
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
    for line in lines {
        if let Some(version) = line.strip_prefix("installed ") {
            copies.installed = Some(plain(version));
        }
        let mut words = line.strip_prefix("copy ").unwrap_or_default().splitn(3, ' ');
        let (Some(name), Some(bytes)) = (words.next(), words.next()) else { continue };
        let hash = name.strip_prefix("speil-").unwrap_or_default();
        let hex = hash.len() == DIGITS && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if let (true, Ok(bytes)) = (hex, bytes.parse()) {
            let version = plain(words.next().unwrap_or_default());
            copies.uploaded.push(AgentCopy {
                name: name.to_owned(),
                bytes,
                version,
                own: hash == own,
                removed: false,
            });
        }
    }
    Some(copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_hex_digits_are_copies() {
        let (own, old) = ("0123456789abcdef0123456789abcdef", "f".repeat(DIGITS));
        let printed = format!(
            "Welcome\ncopy speil-{old} 9 no\n{MARK}\ninstalled speil 0.1.0\ncopy speil-{own} 5 speil 0.2.0\n\
             copy speil-{old} 7 \ncopy speil-$(reboot) 7 x\ncopy speil-* 7 x\ncopy speil-{old} many x\ncopy\n\u{1b}[2J\n"
        );
        let copy = |hash: &str, bytes, version: &str| AgentCopy {
            name: format!("speil-{hash}"),
            bytes,
            version: version.to_owned(),
            own: hash == own,
            removed: false,
        };
        let expected = Copies {
            installed: Some("speil 0.1.0".to_owned()),
            uploaded: vec![copy(own, 5, "speil 0.2.0"), copy(&old, 7, "")],
        };
        assert_eq!(read(&printed, own), Some(expected));
        assert_eq!(read("speil: the agent speaks protocol 5\n", own), None);
    }
}
