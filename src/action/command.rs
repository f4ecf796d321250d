//! Command lines with variables, lsyncd's third layer.
//!
//! **Purpose:** `onModify = "scp ^source host:^path"` → a [`Call`]. **Invariants:** pure; a value never
//! becomes shell syntax: it is a parameter of the shell or a part of a word.
//! **Sources:** lsyncd's manual "Layer 3", lsyncd 2.2.3 as observed.

use std::collections::BTreeMap;

use crate::action::calls::Call;

/// The two names that an event has, and the roots. Paths are as in the queue.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The source, with a slash at its end.
    pub source: &'a [u8],
    /// The target as it was written.
    pub target: Option<&'a [u8]>,
    /// The path, or the old name of a move.
    pub origin: &'a [u8],
    /// The new name of a move.
    pub destination: Option<&'a [u8]>,
}

/// Variables of the one name or the old one, in the order in which they become parameters of a shell; none
/// stands behind one that it begins with.
const PLAIN: [&str; 11] = [
    "pathname",
    "pathdir",
    "path",
    "sourcePathname",
    "sourcePathdir",
    "sourcePath",
    "source",
    "targetPathname",
    "targetPathdir",
    "targetPath",
    "target",
];

/// The same behind `o.` and `d.`, which moves have.
const PREFIXED: [&str; 8] = [
    "pathname",
    "path",
    "sourcePathname",
    "sourcePathdir",
    "sourcePath",
    "targetPathname",
    "targetPathdir",
    "targetPath",
];

fn without_last(path: &[u8]) -> &[u8] {
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    inner.iter().rposition(|byte| *byte == b'/').and_then(|at| inner.get(..=at)).unwrap_or_default()
}

fn relative(path: &[u8]) -> &[u8] {
    path.strip_prefix(b"/").unwrap_or(path)
}

fn name(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Returns the field `field` of an event at `path`; `None` for a field that it does not have.
pub fn field(names: &Names<'_>, path: &[u8], field: &str) -> Option<Vec<u8>> {
    let target = || names.target;
    Some(match field {
        "source" => names.source.to_vec(),
        "target" => target()?.to_vec(),
        "path" => relative(path).to_vec(),
        "pathname" => name(relative(path)).to_vec(),
        "pathdir" => relative(without_last(path)).to_vec(),
        "sourcePath" => [names.source, path].concat(),
        "sourcePathname" => [names.source, name(path)].concat(),
        "sourcePathdir" => [names.source, without_last(path)].concat(),
        "targetPath" => [target()?, path].concat(),
        "targetPathname" => [target()?, name(path)].concat(),
        "targetPathdir" => [target()?, without_last(path)].concat(),
        _ => return None,
    })
}

/// A variable that was met: where it stands in the order, and its value.
struct Met {
    order: usize,
    value: Vec<u8>,
}

/// Finds a variable at the front of `text`, behind its caret; returns it and its length.
fn variable(text: &[u8], names: &Names<'_>) -> Option<(Met, usize)> {
    let (path, list, prefix, first) = match (text, names.destination) {
        ([b'o', b'.', ..], Some(_)) => (names.origin, &PREFIXED[..], 2, PLAIN.len()),
        ([b'd', b'.', ..], Some(to)) => (to, &PREFIXED[..], 2, PLAIN.len() + PREFIXED.len()),
        _ => (names.origin, &PLAIN[..], 0, 0),
    };
    let rest = text.get(prefix..)?;
    let at = list.iter().position(|word| rest.starts_with(word.as_bytes()))?;
    let word = list.get(at)?;
    let value = field(names, path, word).unwrap_or_default();
    Some((Met { order: first + at, value }, prefix + word.len()))
}

/// Walks over `text`; `put` gets either bytes as they stand or a variable.
fn expand(text: &[u8], names: &Names<'_>, mut put: impl FnMut(Result<u8, Met>)) {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte == b'^').then(|| variable(behind, names)).flatten() {
            Some((met, length)) => {
                put(Err(met));
                rest = behind.get(length..).unwrap_or_default();
            }
            None => put(Ok(byte)),
        }
    }
}

/// Returns what a command line stands for at an event, and whether a shell runs it.
pub fn compile(line: &[u8], names: &Names<'_>) -> (Call, bool) {
    let line = line.trim_ascii();
    if line.starts_with(b"/") {
        return (direct(line, names), false);
    }
    // A caret in front says "shell", and is no part of the line.
    let line = line.strip_prefix(b"^").unwrap_or(line);
    let mut values = BTreeMap::new();
    expand(line, names, |piece| {
        if let Err(met) = piece {
            values.insert(met.order, met.value);
        }
    });
    let mut text = Vec::new();
    expand(line, names, |piece| match piece {
        Ok(byte) => text.push(byte),
        Err(met) => {
            let number = values.range(..=met.order).count();
            text.extend_from_slice(format!("\"${}\"", braced(number)).as_bytes());
        }
    });
    let mut call = Call::new(b"/bin/sh", &[b"-c", &text, b"/bin/sh"]);
    call.arguments.extend(values.into_values());
    (call, true)
}

/// Returns the number of a parameter; shells read `$10` as `$1` and a zero.
fn braced(number: usize) -> String {
    if number < 10 { number.to_string() } else { format!("{{{number}}}") }
}

fn direct(line: &[u8], names: &Names<'_>) -> Call {
    let (mut words, mut word, mut quoted) = (Vec::new(), Vec::new(), false);
    expand(line, names, |piece| match piece {
        Ok(b' ' | b'\t' | b'\n') if !quoted => {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
        }
        Ok(byte) => {
            quoted ^= byte == b'"';
            word.push(byte);
        }
        Err(met) => word.extend(met.value),
    });
    if !word.is_empty() {
        words.push(word);
    }
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    Call { program, arguments: words.collect(), input: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> =
        Names { source: b"/src/", target: Some(b"/tgt"), origin: b"/d/f x", destination: Some(b"/e/") };

    fn words(line: &str) -> Vec<String> {
        let (call, _) = compile(line.as_bytes(), &NAMES);
        let all = std::iter::once(&call.program).chain(&call.arguments);
        all.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn values_are_parameters_of_the_shell() {
        assert_eq!(
            words("cp ^sourcePathname ^target^pathdir"),
            ["/bin/sh", "-c", "cp \"$2\" \"$3\"\"$1\"", "/bin/sh", "d/", "/src//d/f x", "/tgt"]
        );
    }

    #[test]
    fn a_variable_that_stands_twice_is_one_parameter() {
        assert_eq!(
            words("^path ^d.path ^o.path ^path ^o.pathdir"),
            ["/bin/sh", "-c", "path \"$3\" \"$2\" \"$1\" \"$2\"dir", "/bin/sh", "d/f x", "d/f x", "e/"]
        );
        let names = Names { destination: None, ..NAMES };
        assert_eq!(compile(b"x ^o.path", &names).0.arguments[1], b"x ^o.path");
    }

    #[test]
    fn a_program_is_called_without_a_shell() {
        assert_eq!(words("/bin/mv ^o.path to=^d.targetPathname"), ["/bin/mv", "d/f x", "to=/tgt/e"]);
        assert_eq!(words("/bin/echo \"two words\""), ["/bin/echo", "\"two words\""]);
    }

    #[test]
    fn names_that_are_no_variables_stay() {
        assert_eq!(
            words("echo ^basename ^^path"),
            ["/bin/sh", "-c", "echo ^basename ^\"$1\"", "/bin/sh", "d/f x"]
        );
    }
}
