//! Names of hosts, as they may be stored and printed.

use std::fmt;

/// Longest name, in bytes.
const LEN_MAX: usize = 255;

/// A host's name for messages: whoever sent it, it is one short printable word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Takes a name; what is no printable ASCII becomes `?`.
    pub fn new(name: &str) -> Self {
        let clean = |c: char| if c.is_ascii_graphic() && !matches!(c, '`' | '"' | '\\') { c } else { '?' };
        let word: String = name.chars().take(LEN_MAX).map(clean).collect();
        Self(if word.is_empty() { "?".to_owned() } else { word })
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
