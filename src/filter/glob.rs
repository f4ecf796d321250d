//! One wildcard pattern as a small automaton.
//!
//! **Purpose:** match bytes against `*`, `**`, `?` and classes without backtracking.
//! **In → Out:** tokens and a text in up to three pieces → whether they match.
//! **Invariants:** time is O(tokens × bytes) for every pattern and text; a match allocates nothing.
//! **Not here:** which part of a path is matched (`rule`, `lsyncd`).
//! **Sources:** rsync(1) "PATTERN MATCHING RULES", observed with rsync 3.5.0; glob(7).

use super::FilterError;

/// Longest pattern in bytes: what rsync accepts, one path.
const PATTERN_LEN_MAX: usize = 4096;
/// Words of the states of the longest.
const WIDTH_MAX: usize = PATTERN_LEN_MAX / 64 + 1;

/// Checks what every pattern must hold, whoever wrote it.
pub(super) fn check_pattern(pattern: &[u8]) -> Result<(), FilterError> {
    if pattern.len() > PATTERN_LEN_MAX {
        return Err(FilterError::Long(pattern.get(..64).unwrap_or_default().to_vec()));
    }
    if pattern.contains(&0) {
        return Err(FilterError::Nul(pattern.to_vec()));
    }
    Ok(())
}

/// Whether rsync reads `pattern` as wildcards, in which a backslash escapes.
pub(super) fn is_wild(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Whether `pattern` holds `**`, which can match slashes.
pub(super) fn has_deep(pattern: &[u8]) -> bool {
    pattern.windows(2).any(|pair| pair == b"**")
}

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: one byte that is no slash.
    Any,
    /// `*`: a run of bytes that are no slash.
    Star,
    /// `**`: a run of any bytes.
    Deep,
    Class(Box<ByteSet>),
    /// A class without end, or an escape of nothing: the pattern can never match.
    Never,
}

/// Where in the text a match may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starts {
    /// At the first byte only.
    First,
    /// At the first byte and after every slash.
    AfterSlash,
}

/// Where in the text a match may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// At the end of the text.
    Last,
    /// At the end of the text or before a slash.
    BeforeSlash,
    /// Anywhere.
    Anywhere,
}

/// A compiled wildcard pattern.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    /// Two run tokens (`Star`, `Deep`) are never neighbours, so one step closes a state set.
    tokens: Vec<Token>,
    /// Bit *i* is set if token *i* is a run, which can be stepped over.
    runs: Vec<u64>,
    /// Literal bytes after the last wildcard and the last slash: rejects most names at once.
    tail: Vec<u8>,
    /// The longest run of literal bytes without a slash, which the path must hold: rejects most others.
    needle: Vec<u8>,
}

impl Glob {
    /// Compiles rsync's wildcards: `*`, `**`, `?`, classes, backslash escapes.
    pub(super) fn rsync(pattern: &[u8]) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let token = match first {
                b'*' => {
                    let (token, after) = run(after);
                    rest = after;
                    token
                }
                b'?' => Token::Any,
                b'\\' => match after.split_first() {
                    Some((&escaped, after)) => {
                        rest = after;
                        Token::Byte(escaped)
                    }
                    None => Token::Never,
                },
                b'[' => match ByteSet::parse(after) {
                    Some((set, after)) => {
                        rest = after;
                        Token::Class(Box::new(set))
                    }
                    None => {
                        rest = &[];
                        Token::Never
                    }
                },
                byte => Token::Byte(byte),
            };
            tokens.push(token);
        }
        Self::from_tokens(tokens)
    }

    /// Compiles lsyncd's wildcards: `*`, `**` and `?`; everything else is literal.
    pub(super) fn lsyncd(pattern: &[u8]) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            tokens.push(match first {
                b'*' => {
                    let (token, after) = run(after);
                    rest = after;
                    token
                }
                b'?' => Token::Any,
                byte => Token::Byte(byte),
            });
        }
        Self::from_tokens(tokens)
    }

    fn from_tokens(tokens: Vec<Token>) -> Self {
        let mut runs = vec![0; tokens.len() / 64 + 1];
        for (index, token) in tokens.iter().enumerate() {
            if matches!(token, Token::Star | Token::Deep) {
                set_bit(&mut runs, index);
            }
        }
        let literals = tokens.split(|token| !matches!(token, Token::Byte(byte) if *byte != b'/'));
        let bytes = |run: &[Token]| {
            run.iter()
                .filter_map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None })
                .collect()
        };
        let tail = literals.clone().next_back().map(bytes).unwrap_or_default();
        let needle = literals.max_by_key(|run| run.len()).map(bytes).unwrap_or_default();
        Self { tokens, runs, tail, needle }
    }

    /// Whether the pattern can never match.
    pub(super) fn is_never(&self) -> bool {
        self.tokens.contains(&Token::Never)
    }

    /// Returns the literal `x` of a pattern that is `*x`, which needs no automaton within one name.
    pub(super) fn as_suffix(&self) -> Option<&[u8]> {
        let single = self.tokens.first() == Some(&Token::Star) && self.tail.len() + 1 == self.tokens.len();
        single.then_some(self.tail.as_slice())
    }

    /// Whether the pattern matches `pieces`, read as one text whose path part is the second piece.
    pub(super) fn matches(&self, pieces: [&[u8]; 3], starts: Starts, ends: Ends) -> bool {
        let [_, path, after] = pieces;
        if ends == Ends::Last && after.is_empty() && !path.ends_with(&self.tail) {
            return false;
        }
        if !holds(path, &self.needle) {
            return false;
        }
        match self.runs.len() {
            1 => self.simulate::<1>(pieces, starts, ends),
            2..=4 => self.simulate::<4>(pieces, starts, ends),
            _ => self.simulate::<WIDTH_MAX>(pieces, starts, ends),
        }
    }

    /// Runs the automaton; bit *i* of `now` says that the first *i* tokens have matched so far.
    fn simulate<const W: usize>(&self, pieces: [&[u8]; 3], starts: Starts, ends: Ends) -> bool {
        let mut start = [0; W];
        set_bit(&mut start, 0);
        self.close(&mut start);
        let mut now = start;
        for &byte in pieces.iter().copied().flatten() {
            if ends == Ends::BeforeSlash && byte == b'/' && self.accepts(&now) {
                return true;
            }
            now = self.step(&now, byte);
            if starts == Starts::AfterSlash && byte == b'/' {
                for (word, begin) in now.iter_mut().zip(start) {
                    *word |= begin;
                }
            } else if starts == Starts::First && now == [0; W] {
                return false;
            }
            if ends == Ends::Anywhere && self.accepts(&now) {
                return true;
            }
        }
        self.accepts(&now)
    }

    /// Returns how far the pattern has come after a beginning of the text, and whether it has matched by then.
    /// Where two beginnings agree in both, they do with whatever follows.
    pub(super) fn after(&self, beginning: [&[u8]; 3], starts: Starts, ends: Ends) -> (Vec<u64>, bool) {
        let mut start = [0; WIDTH_MAX];
        set_bit(&mut start, 0);
        self.close(&mut start);
        let (mut now, mut matched) = (start, false);
        for &byte in beginning.iter().copied().flatten() {
            matched |= ends == Ends::BeforeSlash && byte == b'/' && self.accepts(&now);
            now = self.step(&now, byte);
            if starts == Starts::AfterSlash && byte == b'/' {
                now.iter_mut().zip(start).for_each(|(word, begin)| *word |= begin);
            }
            matched |= ends == Ends::Anywhere && self.accepts(&now);
        }
        (now.to_vec(), matched)
    }

    /// Returns the states after `byte`, closed over runs that match nothing more.
    fn step<const W: usize>(&self, now: &[u64; W], byte: u8) -> [u64; W] {
        let mut next = [0; W];
        for (index, &word) in now.iter().enumerate() {
            let mut bits = word;
            while bits != 0 {
                let state = index * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(token) = self.tokens.get(state) else { continue };
                let ahead = match token {
                    Token::Byte(wanted) => *wanted == byte,
                    Token::Any => byte != b'/',
                    Token::Class(set) => set.holds(byte),
                    Token::Never => false,
                    Token::Star | Token::Deep => {
                        if byte != b'/' || *token == Token::Deep {
                            set_bit(&mut next, state);
                        }
                        false
                    }
                };
                if ahead {
                    set_bit(&mut next, state + 1);
                }
            }
        }
        self.close(&mut next);
        next
    }

    /// Adds the state behind every run that is under way.
    fn close<const W: usize>(&self, states: &mut [u64; W]) {
        let mut carry = 0;
        for (state, &runs) in states.iter_mut().zip(&self.runs) {
            let over = *state & runs;
            *state |= over << 1 | carry;
            carry = over >> 63;
        }
    }

    fn accepts(&self, states: &[u64]) -> bool {
        let end = self.tokens.len();
        states.get(end / 64).is_some_and(|word| word >> (end % 64) & 1 == 1)
    }
}

/// Returns the token for a run of asterisks whose first has been read, and what follows them.
fn run(after: &[u8]) -> (Token, &[u8]) {
    let more = after.iter().take_while(|&&byte| byte == b'*').count();
    let token = if more == 0 { Token::Star } else { Token::Deep };
    (token, after.get(more..).unwrap_or_default())
}

/// Whether `needle` stands somewhere in `text`.
fn holds(text: &[u8], needle: &[u8]) -> bool {
    // Comparing the first byte apart spares nearly every call that compares the rest.
    let Some((first, rest)) = needle.split_first() else { return true };
    text.windows(needle.len()).any(|window| match window {
        [byte, more @ ..] => byte == first && more == rest,
        [] => false,
    })
}

fn set_bit(words: &mut [u64], bit: usize) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// The bytes that a class matches; never the slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ByteSet([u64; 4]);

impl ByteSet {
    /// Reads a class whose opening bracket has been read; `None` if it has no end or an unknown name.
    fn parse(text: &[u8]) -> Option<(Self, &[u8])> {
        let (negated, mut rest) = match text.split_first() {
            Some((b'!' | b'^', after)) => (true, after),
            _ => (false, text),
        };
        let mut set = Self([0; 4]);
        let mut previous = None;
        let mut first = true;
        loop {
            let (&byte, after) = rest.split_first()?;
            if byte == b']' && !first {
                rest = after;
                break;
            }
            first = false;
            let range_from = previous.take();
            match (byte, after.first()?) {
                (b'[', b':') => match named(after)? {
                    Named::Class(class, after) => {
                        (0..=u8::MAX).filter(class).for_each(|byte| set.insert(byte));
                        rest = after;
                        continue;
                    }
                    Named::NoClass => {}
                },
                (b'-', &to) if to != b']' && range_from.is_some() => {
                    let (to, after) = literal(after)?;
                    (range_from?..=to).for_each(|byte| set.insert(byte));
                    rest = after;
                    continue;
                }
                _ => {}
            }
            let (byte, after) = literal(rest)?;
            set.insert(byte);
            previous = Some(byte);
            rest = after;
        }
        if negated {
            set.0.iter_mut().for_each(|word| *word = !*word);
        }
        set.remove(b'/');
        Some((set, rest))
    }

    fn insert(&mut self, byte: u8) {
        set_bit(&mut self.0, usize::from(byte));
    }

    fn remove(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte / 64)) {
            *word &= !(1 << (byte % 64));
        }
    }

    fn holds(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte / 64)).is_some_and(|word| word >> (byte % 64) & 1 == 1)
    }
}

/// Reads one byte of a class, which a backslash may precede.
fn literal(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'\\', byte, rest @ ..] => Some((*byte, rest)),
        [b'\\'] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

/// What `[:` inside a class begins.
enum Named<'a> {
    /// A POSIX class, and what follows it.
    Class(fn(&u8) -> bool, &'a [u8]),
    /// No class: the bracket is literal.
    NoClass,
}

/// Reads `:name:]`; `None` if no bracket closes it or nobody knows the name.
fn named(text: &[u8]) -> Option<Named<'_>> {
    let body = text.get(1..)?;
    let end = body.iter().position(|&byte| byte == b']')?;
    let (inner, rest) = body.split_at_checked(end)?;
    let Some(name) = inner.strip_suffix(b":") else { return Some(Named::NoClass) };
    let class: fn(&u8) -> bool = match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    Some(Named::Class(class, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pattern: &[u8], text: &[u8]) -> bool {
        Glob::rsync(pattern).matches([b"", text, b""], Starts::First, Ends::Last)
    }

    #[test]
    fn star_stops_at_a_slash_and_two_stars_do_not() {
        for (pattern, text, expected) in [
            ("*", "ab", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("a*c", "abbc", true),
            ("a*c", "ab/c", false),
            ("a**c", "ab/c", true),
            ("?", "/", false),
            ("a*", "a", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a*\\", "a\\", false),
        ] {
            assert_eq!(whole(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn classes_hold_ranges_names_and_brackets_and_never_a_slash() {
        for (pattern, yes, no) in [
            ("[a-c]", "abc", "dA-/"),
            ("[!a-c]", "dA-", "abc/"),
            ("[^a-c]", "d^", "a/"),
            ("[]a]", "]a", "b["),
            ("[!]a]", "b[", "]a"),
            ("[a-]", "a-", "b"),
            ("[-a]", "a-", "b"),
            ("[a-c-e]", "abc-e", "d"),
            ("[\\]x]", "]x", "\\"),
            ("[a-\\c]", "abc", "\\"),
            ("[[:digit:]x]", "0x", ":d"),
            ("[[:upper:][:digit:]]", "A0", "a"),
            ("[[:alpha]", "[:alph", "]bz"),
            ("[z-a]", "z", "am"),
            ("[/]", "", "/"),
            ("[[:nothing:]]", "", "n:[]"),
            ("[a", "", "a["),
        ] {
            for byte in yes.bytes() {
                assert!(whole(pattern.as_bytes(), &[byte]), "{pattern} {:?}", char::from(byte));
            }
            for byte in no.bytes() {
                assert!(!whole(pattern.as_bytes(), &[byte]), "{pattern} {:?}", char::from(byte));
            }
        }
    }

    #[test]
    fn patterns_longer_than_a_word_match_as_short_ones_do() {
        for length in [1, 62, 63, 64, 65, 127, 128, 200, 255, 256, 1000, 4093] {
            let text = vec![b'x'; length];
            let mut pattern = b"*".to_vec();
            pattern.extend_from_slice(&text);
            pattern.push(b'*');
            assert!(whole(&pattern, &text), "{length}");
            assert!(!whole(&pattern, &text[1..]), "{length}");
            pattern.pop();
            pattern[1 + length / 2] = b'?';
            assert!(whole(&pattern, &text), "{length}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_pattern_times_text() {
        // A backtracking matcher needs longer than the universe has had for any of these.
        let text = vec![b'a'; 4000];
        for star in ["*a", "**a", "*[a]", "*?", "*/**a"] {
            let mut pattern = star.repeat(60).into_bytes();
            pattern.extend_from_slice(b"b*");
            assert!(!whole(&pattern, &text), "{star}");
            let glob = Glob::lsyncd(&pattern);
            assert!(!glob.matches([b"", &text, b""], Starts::AfterSlash, Ends::BeforeSlash));
        }
    }
}
