//! Command lines with variables, lsyncd's third layer.
//!
//! **Purpose:** `onModify = "scp ^source host:^path"` → a [`Call`]. **Invariants:** pure; a value never
//! becomes shell syntax: it is a parameter of the shell or a part of a word.
//! **Sources:** lsyncd's manual "Layer 3", lsyncd 2.2.3 as observed.

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

/// Variables, so that none stands behind one that it begins with.
const VARIABLES: [&str; 11] = [
    "sourcePathname",
    "sourcePathdir",
    "sourcePath",
    "source",
    "targetPathname",
    "targetPathdir",
    "targetPath",
    "target",
    "pathname",
    "pathdir",
    "path",
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

/// Finds a variable at the front of `text`, behind its caret; returns its value and its length.
fn variable(text: &[u8], names: &Names<'_>) -> Option<(Vec<u8>, usize)> {
    let (path, prefix) = match text {
        [b'o', b'.', ..] => (names.origin, 2),
        [b'd', b'.', ..] => (names.destination?, 2),
        _ => (names.origin, 0),
    };
    let rest = text.get(prefix..)?;
    let word = VARIABLES.iter().find(|word| rest.starts_with(word.as_bytes()))?;
    Some((field(names, path, word).unwrap_or_default(), prefix + word.len()))
}

/// Walks over `text`; `put` gets either bytes as they stand or a value.
fn expand(text: &[u8], names: &Names<'_>, mut put: impl FnMut(Result<u8, Vec<u8>>)) {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte == b'^').then(|| variable(behind, names)).flatten() {
            Some((value, length)) => {
                put(Err(value));
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
    let line = match line.split_first() {
        // A caret in front says "shell", unless it is a variable's own.
        Some((b'^', rest)) if variable(rest, names).is_none() || rest.starts_with(b"/") => rest,
        _ => line,
    };
    let (mut text, mut values) = (Vec::new(), Vec::new());
    expand(line, names, |piece| match piece {
        Ok(byte) => text.push(byte),
        Err(value) => {
            values.push(value);
            text.extend_from_slice(format!("\"${}\"", braced(values.len())).as_bytes());
        }
    });
    let mut call = Call::new(b"/bin/sh", &[b"-c", &text, b"/bin/sh"]);
    call.arguments.extend(values);
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
        Err(value) => word.extend(value),
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
            ["/bin/sh", "-c", "cp \"$1\" \"$2\"\"$3\"", "/bin/sh", "/src//d/f x", "/tgt", "d/"]
        );
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
