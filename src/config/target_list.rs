//! A file of targets, one a line, that people and scripts change while the daemon runs (`targetsFile`).
//!
//! **In → out:** the file's text and a target → the text with it, or without it. **Invariants:** every other line stays
//! as it is, comments as well. Pure. **Not here:** the file itself (`config::mirror` reads it, `speil target` writes it).

use crate::config::Target;
use crate::config::spelling;
use crate::config::target::{TargetError, name_targets, parse_target};

/// Returns the lines that name a target, with their numbers from 1.
pub(super) fn specs(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = (1..).zip(text.split(|&byte| byte == b'\n').map(|line| uncommented(line).trim_ascii()));
    lines.filter(|(_, line)| !line.is_empty())
}

/// Returns a line up to a `#` that begins it or follows a blank.
fn uncommented(line: &[u8]) -> &[u8] {
    let begins =
        |at: &usize| line[*at] == b'#' && at.checked_sub(1).is_none_or(|at| line[at].is_ascii_whitespace());
    line.get(..(0..line.len()).find(begins).unwrap_or(line.len())).unwrap_or_default()
}

/// Returns the targets of a list, by the names that they have beside each other.
///
/// # Errors
/// [`TargetError`] of the first line that names none, with its number.
pub fn listed(text: &[u8]) -> Result<Vec<Target>, (usize, TargetError)> {
    let parsed = specs(text).map(|(number, spec)| parse_target(spec).map_err(|error| (number, error)));
    let mut targets = parsed.collect::<Result<Vec<_>, _>>()?;
    name_targets(&mut targets);
    Ok(targets)
}

/// Returns the list with a target at its end; `None` if it has it already.
///
/// # Errors
/// [`TargetError`] if `spec` names no target.
pub fn with(text: &[u8], spec: &str) -> Result<Option<Vec<u8>>, TargetError> {
    let target = parse_target(spec)?;
    if specs(text).any(|(_, line)| is_one(line, &target)) {
        return Ok(None);
    }
    let mut text = text.to_vec();
    if text.last().is_some_and(|&last| last != b'\n') {
        text.push(b'\n');
    }
    text.extend(spec.trim().as_bytes());
    text.push(b'\n');
    Ok(Some(text))
}

/// Returns the list without a target, which is written as in the list or by its name; `None` if it is not there.
pub fn without(text: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let named = listed(text).ok()?.into_iter().find(|target| target.name == wanted);
    let target = parse_target(wanted).ok().filter(|target| specs(text).any(|(_, line)| is_one(line, target)));
    let target = target.or(named)?;
    let is_kept = |line: &&[u8]| !specs(line).any(|(_, line)| is_one(line, &target));
    Some(text.split_inclusive(|&byte| byte == b'\n').filter(is_kept).flatten().copied().collect())
}

/// Whether a line names a target, however both are spelled.
fn is_one(line: &[u8], target: &Target) -> bool {
    let place = |target: &Target| {
        let target = spelling::target(target);
        (target.host, target.path)
    };
    parse_target(line).is_ok_and(|other| place(&other) == place(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        "# the web nodes\nweb1:/srv/u/\n\n  root@web2:/srv/u  # the second\n/srv/copy\nweb3:/x";

    fn text(list: Option<Vec<u8>>) -> String {
        String::from_utf8(list.unwrap()).unwrap()
    }

    #[test]
    fn a_target_is_added_once_and_the_rest_of_the_list_stays() {
        assert_eq!(text(with(LIST.as_bytes(), "web4:/srv/u").unwrap()), format!("{LIST}\nweb4:/srv/u\n"));
        for there in ["web1:/srv/u", "root@web2:/srv//u/", "/srv/copy/"] {
            assert_eq!(with(LIST.as_bytes(), there), Ok(None), "{there}");
        }
        assert!(with(LIST.as_bytes(), "rsync://web1/u").is_err());
        assert_eq!(text(with(b"", "web1:/srv").unwrap()), "web1:/srv\n");
    }

    #[test]
    fn a_target_is_removed_as_it_is_written_or_by_its_name() {
        let left = "# the web nodes\nweb1:/srv/u/\n\n/srv/copy\nweb3:/x";
        assert_eq!(text(without(LIST.as_bytes(), "root@web2:/srv/u/")), left);
        assert_eq!(text(without(LIST.as_bytes(), "web1")), LIST.replace("web1:/srv/u/\n", ""));
        assert_eq!(text(without(LIST.as_bytes(), "web3:/x")), LIST.replace("web3:/x", ""));
        assert_eq!(without(LIST.as_bytes(), "web4:/srv/u"), None);
    }
}
