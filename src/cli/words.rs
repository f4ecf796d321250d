//! Command lines inside arguments: `--rsh` and `--rsync-path`.

use super::units::ValueError;

/// Programs that may stand before rsync in `--rsync-path`, with their short flags that take a value.
const LEADERS: [(&str, &str); 4] = [("sudo", "ughpCrtTDRU"), ("doas", "uC"), ("nice", "n"), ("ionice", "cn")];

/// Their long flags that take the next word as value.
const LONG_WITH_VALUE: [&str; 8] =
    ["--user", "--group", "--host", "--prompt", "--chdir", "--adjustment", "--class", "--classdata"];

/// What only a shell could make sense of.
const SHELL_CHARS: &[char] = &[';', '&', '|', '<', '>', '`', '$', '(', ')', '\n'];

/// Splits the command of `--rsh` into words by the rule of rsync(1) "--rsh": spaces separate, single and
/// double quotes hold together, a doubled quote inside quotes is that quote, a backslash is itself.
///
/// # Errors
/// [`ValueError::Quote`] for a quote that is not closed, [`ValueError::Empty`] for no word.
pub(super) fn split_words(text: &str) -> Result<Vec<String>, ValueError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' => words.extend(word.take()),
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(ValueError::Empty) } else { Ok(words) }
}

/// Reads up to the closing `quote` into `word`.
fn quoted(
    quote: char,
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Result<(), ValueError> {
    while let Some(c) = chars.next() {
        if c != quote {
            word.push(c);
        } else if chars.next_if_eq(&quote).is_some() {
            word.push(quote);
        } else {
            return Ok(());
        }
    }
    Err(ValueError::Quote(quote))
}

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

    fn words(text: &str) -> Vec<String> {
        split_words(text).unwrap()
    }

    #[test]
    fn words_split_at_spaces_outside_quotes() {
        assert_eq!(words("ssh -i /k -p 22"), ["ssh", "-i", "/k", "-p", "22"]);
        assert_eq!(words("  ssh   -o 'ProxyCommand=nc %h %p' "), ["ssh", "-o", "ProxyCommand=nc %h %p"]);
        assert_eq!(words(r#"ssh -i "/my ""key""" -l''x"#), ["ssh", "-i", "/my \"key\"", "-lx"]);
        assert_eq!(words("ssh ''"), ["ssh", ""]);
        assert_eq!(words(r"ssh a\ b"), ["ssh", r"a\", "b"]);
        assert_eq!(split_words("ssh 'x"), Err(ValueError::Quote('\'')));
        assert_eq!(split_words("  "), Err(ValueError::Empty));
    }

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
            ("", ValueError::Empty),
        ] {
            assert_eq!(parse_remote_program(text), Err(error), "{text}");
        }
    }
}
