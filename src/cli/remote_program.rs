//! The command line inside `--rsync-path`.

use super::values::ValueError;
use crate::config::split_words;

/// Programs that may stand before rsync in `--rsync-path`, with their short flags that take a value.
const LEADERS: [(&str, &str); 4] = [("sudo", "ughpCrtTDRU"), ("doas", "uC"), ("nice", "n"), ("ionice", "cn")];

/// Their long flags that take the next word as value.
const LONG_WITH_VALUE: [&str; 8] =
    ["--user", "--group", "--host", "--prompt", "--chdir", "--adjustment", "--class", "--classdata"];

/// What only a shell could make sense of.
const SHELL_CHARS: &[char] = &[';', '&', '|', '<', '>', '`', '$', '(', ')', '\n'];

/// What `--rsync-path` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteProgram {
    /// Words that go before the agent: `sudo -n`.
    pub prefix: Vec<String>,
    /// The program, which the agent replaces.
    pub program: String,
}

/// Takes `--rsync-path` apart: `sudo -u www-data nice -n 10 /usr/bin/rsync`.
///
/// # Errors
/// [`ValueError`] for a shell line, for a leading program other than sudo, doas, nice and ionice, for
/// arguments after the program, and for no program.
pub(super) fn parse_remote_program(text: &str) -> Result<RemoteProgram, ValueError> {
    if let Some(c) = text.chars().find(|c| SHELL_CHARS.contains(c)) {
        return Err(ValueError::Shell(c));
    }
    let mut words = split_words(text)?.into_iter().peekable();
    let mut prefix: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        let Some((_, with_value)) = LEADERS.iter().find(|(name, _)| *name == base_name(&word)) else {
            if let Some(next) = words.next() {
                return Err(if base_name(&word).starts_with("rsync") {
                    ValueError::RemoteArgument(next)
                } else {
                    ValueError::Leader(word)
                });
            }
            return Ok(RemoteProgram { prefix, program: word });
        };
        prefix.push(word);
        while let Some(flag) = words.next_if(|next| next.starts_with('-')) {
            let takes = takes_next(&flag, with_value);
            prefix.push(flag);
            if takes {
                prefix.extend(words.next());
            }
        }
    }
    Err(ValueError::NoProgram(prefix.pop().unwrap_or_default()))
}

/// Returns the part of `word` after the last slash.
fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether `flag` takes the next word: a long one by name, a cluster of short ones if the first that
/// takes a value stands last.
fn takes_next(flag: &str, with_value: &str) -> bool {
    if flag.starts_with("--") {
        return LONG_WITH_VALUE.contains(&flag);
    }
    let first = flag.char_indices().skip(1).find(|(_, c)| with_value.contains(*c));
    first.is_some_and(|(at, c)| at + c.len_utf8() == flag.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UnitError;

    #[test]
    fn leaders_and_their_flags_go_before_the_agent() {
        for (text, prefix, program) in [
            ("sudo rsync", vec!["sudo"], "rsync"),
            ("rsync", vec![], "rsync"),
            ("/opt/bin/rsync", vec![], "/opt/bin/rsync"),
            ("sudo -nu root /usr/bin/rsync", vec!["sudo", "-nu", "root"], "/usr/bin/rsync"),
            ("sudo -uroot rsync", vec!["sudo", "-uroot"], "rsync"),
            ("sudo --user root -- rsync", vec!["sudo", "--user", "root", "--"], "rsync"),
            ("nice -n 19 ionice -c3 rsync", vec!["nice", "-n", "19", "ionice", "-c3"], "rsync"),
            ("nice -19 doas rsync", vec!["nice", "-19", "doas"], "rsync"),
        ] {
            let parsed = parse_remote_program(text).unwrap();
            assert_eq!(
                (parsed.prefix, parsed.program.as_str()),
                (prefix.iter().map(|w| (*w).to_owned()).collect(), program),
                "{text}"
            );
        }
    }

    #[test]
    fn remote_program_that_needs_a_shell_or_has_arguments_is_refused() {
        for (text, error) in [
            ("cd /x && rsync", ValueError::Shell('&')),
            ("mkdir -p /x rsync", ValueError::Leader("mkdir".into())),
            ("rsync --fake-super", ValueError::RemoteArgument("--fake-super".into())),
            ("sudo -u", ValueError::NoProgram("-u".into())),
            ("", ValueError::Unit(UnitError::Empty)),
        ] {
            assert_eq!(parse_remote_program(text), Err(error), "{text}");
        }
    }
}
