//! `--out-format`: one line for each change.
//!
//! Source: rsyncd.conf(5) "log format". Escapes that only an rsync daemon fills stand for themselves, as in rsync; those
//! that name rsync's own checksums are refused.

use std::io::Write;

use super::itemize::Item;
use super::numbers;
use super::numbers::Numbers;
use crate::tree::{Entry, Kind, Meta, Time};

/// Widest field, in columns.
const WIDTH_MAX: usize = 512;

/// Why a format is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A `%` at the end.
    #[error("there is a percent sign at the end; write %% for one")]
    Open,
    /// An escape that speil cannot fill.
    #[error("%{0} is not available; speil has %i %n %f %l %b %M %o %L %t %p %B %U %G %%")]
    Escape(char),
    /// A field wider than 512 columns.
    #[error("a field is wider than {WIDTH_MAX} columns")]
    Width,
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { field: Field, numbers: Numbers, width: usize, left: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Item,
    Name,
    Path,
    Size,
    Bytes,
    Mtime,
    Operation,
    Link,
    Now,
    Pid,
    Perms,
    Uid,
    Gid,
}

/// What was done, for `%o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Sent to the target.
    Send,
    /// Sent to this host.
    Receive,
    /// Removed from the target.
    Delete,
}

/// What a line is about.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// What changed (`%i`).
    pub item: Item,
    /// What was done (`%o`).
    pub operation: Operation,
    /// The path below the source; empty for the source itself (`%n`).
    pub name: &'a [u8],
    /// The source directory, for the long name (`%f`).
    pub source: &'a [u8],
    /// Size, mode, owner and time; `None` where nothing stands in the source.
    pub meta: Option<&'a Meta>,
    /// What a symlink points at, or the name that a hard link is linked to (`%L`).
    pub link: Option<&'a [u8]>,
    /// Bytes that were really sent for it (`%b`).
    pub bytes: u64,
    /// The time of the line (`%t`).
    pub now: Time,
    /// The process that writes it (`%p`).
    pub pid: u32,
}

impl Format {
    /// Returns the format of `-i`: `%i %n%L`.
    pub fn itemized() -> Self {
        let mut format = Self::names();
        format.parts.splice(0..0, [Part::plain(Field::Item), Part::Text(" ".to_owned())]);
        format
    }

    /// Returns the format of `-v`: `%n%L`.
    pub fn names() -> Self {
        Self { parts: vec![Part::plain(Field::Name), Part::plain(Field::Link)] }
    }

    /// Whether it says what was done (`%i`, `%o`).
    pub fn tells_operation(&self) -> bool {
        let tells = |part: &Part| matches!(part, Part::Field { field: Field::Item | Field::Operation, .. });
        self.parts.iter().any(tells)
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Parses a format. Between `%` and the letter may stand a width (`%10l`, `%-20n`), and apostrophes for
    /// readable numbers (`%'l`, `%''b`).
    ///
    /// # Errors
    /// [`FormatError`] for an escape that speil cannot fill.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                plain.push(c);
            } else if chars.next_if_eq(&'%').is_some() {
                plain.push('%');
            } else {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::parse(&mut chars)?);
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Returns the line, without a line end. Names have their control characters escaped, and bytes that
    /// are no UTF-8 as well unless `eight_bit`.
    pub fn render(&self, line: &Line<'_>, eight_bit: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field { field, numbers, width, left } => {
                    let bytes = field.render(line, *numbers, eight_bit);
                    let pad = width.saturating_sub(bytes.len());
                    let blanks = vec![b' '; pad];
                    if *left {
                        out.extend([bytes, blanks].concat());
                    } else {
                        out.extend([blanks, bytes].concat());
                    }
                }
            }
        }
        out
    }
}

impl Part {
    const fn plain(field: Field) -> Self {
        Self::Field { field, numbers: Numbers::Plain, width: 0, left: false }
    }

    /// Reads what follows a percent sign.
    fn parse(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Self, FormatError> {
        let mut readable = 0_u8;
        while chars.next_if_eq(&'\'').is_some() {
            readable = readable.saturating_add(1);
        }
        let left = chars.next_if_eq(&'-').is_some();
        let mut width = 0_usize;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            chars.next();
            width = width.saturating_mul(10).saturating_add(digit as usize);
        }
        while chars.next_if_eq(&'\'').is_some() {
            readable = readable.saturating_add(1);
        }
        if width > WIDTH_MAX {
            return Err(FormatError::Width);
        }
        let letter = chars.next().ok_or(FormatError::Open)?;
        let plain = |text: String| Ok(Self::Text(text));
        let field = match Field::of(letter)? {
            Some(field) => field,
            None if letter == 'm' => return plain(String::new()),
            None if width == 0 && readable == 0 && !left => return plain(format!("%{letter}")),
            None => return Err(FormatError::Escape(letter)),
        };
        let numbers = match readable {
            0 => Numbers::Plain,
            1 => Numbers::Grouped,
            2 => Numbers::Thousand,
            _ => Numbers::Binary,
        };
        Ok(Self::Field { field, numbers, width, left })
    }
}

impl Field {
    /// Returns what a letter stands for; `None` if it stands for itself where there is no rsync daemon.
    fn of(letter: char) -> Result<Option<Self>, FormatError> {
        Ok(Some(match letter {
            'i' => Self::Item,
            'n' => Self::Name,
            'f' => Self::Path,
            'l' => Self::Size,
            'b' => Self::Bytes,
            'M' => Self::Mtime,
            'o' => Self::Operation,
            'L' => Self::Link,
            't' => Self::Now,
            'p' => Self::Pid,
            'B' => Self::Perms,
            'U' => Self::Uid,
            'G' => Self::Gid,
            'c' | 'C' => return Err(FormatError::Escape(letter)),
            _ => return Ok(None),
        }))
    }

    fn render(self, line: &Line<'_>, numbers: Numbers, eight_bit: bool) -> Vec<u8> {
        let meta = line.meta;
        match self {
            Self::Item => line.item.to_string().into_bytes(),
            Self::Name => escape_name(&short_name(line), eight_bit),
            Self::Path => escape_name(&long_name(line), eight_bit),
            Self::Size => {
                let link =
                    line.link.filter(|_| line.item.kind == Kind::Symlink).map(|link| link.len() as u64);
                numbers::whole(link.unwrap_or(meta.map_or(0, |meta| meta.size)), numbers).into_bytes()
            }
            Self::Bytes => numbers::whole(line.bytes, numbers).into_bytes(),
            Self::Mtime => meta.map_or_else(Vec::new, |meta| stamp(meta.mtime, '-').into_bytes()),
            Self::Operation => match line.operation {
                Operation::Send => b"send".to_vec(),
                Operation::Receive => b"recv".to_vec(),
                Operation::Delete => b"del.".to_vec(),
            },
            Self::Link => match line.link {
                Some(link) => {
                    let arrow = if line.item.kind == Kind::Symlink { " -> " } else { " => " };
                    [arrow.as_bytes(), &escape_name(link, eight_bit)].concat()
                }
                None => Vec::new(),
            },
            Self::Now => stamp(line.now, ' ').into_bytes(),
            Self::Pid => line.pid.to_string().into_bytes(),
            Self::Perms => meta.map_or_else(Vec::new, |meta| permissions(meta.mode).into_bytes()),
            Self::Uid => meta.map_or_else(Vec::new, |meta| meta.uid.to_string().into_bytes()),
            Self::Gid => meta.map_or_else(Vec::new, |meta| meta.gid.to_string().into_bytes()),
        }
    }
}

/// Returns the name below the source; a directory's ends in a slash.
fn short_name(line: &Line<'_>) -> Vec<u8> {
    match (line.name.is_empty(), line.item.kind == Kind::Dir) {
        (true, _) => b"./".to_vec(),
        (false, true) => [line.name, b"/"].concat(),
        (false, false) => line.name.to_vec(),
    }
}

/// Returns the name with the source before it, without its leading slash.
fn long_name(line: &Line<'_>) -> Vec<u8> {
    let source = line.source;
    let from = source.iter().position(|&b| b != b'/').unwrap_or(source.len());
    let to = source.iter().rposition(|&b| b != b'/').map_or(from, |last| last.saturating_add(1));
    let source = source.get(from..to).unwrap_or_default();
    let name = if line.name.is_empty() { b"." } else { line.name };
    if source.is_empty() { name.to_vec() } else { [source, b"/", name].concat() }
}

/// Returns `rwxr-xr-x` for the permission bits, set-id and sticky bits among them.
fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Returns the line of an entry that is only listed.
pub(super) fn listed(path: &[u8], entry: &Entry, (numbers, eight_bit): (Numbers, bool)) -> Vec<u8> {
    let meta = &entry.attrs.meta;
    let letter = match meta.kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
    };
    let width = if numbers == Numbers::Plain { 11 } else { 14 };
    let size = numbers::whole(meta.size, numbers);
    let begin = format!("{letter}{} {size:>width$} {} ", permissions(meta.mode), stamp(meta.mtime, ' '));
    let mut line = begin.into_bytes();
    line.extend(escape_name(if path.is_empty() { b"." } else { path }, eight_bit));
    if !entry.attrs.symlink.is_empty() {
        line.extend_from_slice(b" -> ");
        line.extend(escape_name(&entry.attrs.symlink, eight_bit));
    }
    line
}

/// Returns this moment as log lines begin: local time, `2026/01/31 23:59:59`.
pub(super) fn log_stamp() -> String {
    stamp(Time::now(), ' ')
}

/// Returns local time as `2026/01/31`, `separator`, `23:59:59`.
fn stamp(time: Time, separator: char) -> String {
    // SAFETY: `tm` is plain numbers and a pointer that nobody reads; zeroes are a value of it.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of this function, and nothing keeps them.
    let known = unsafe { !libc::localtime_r(&time.secs, &mut parts).is_null() };
    if !known {
        return time.secs.to_string();
    }
    let year = i64::from(parts.tm_year) + 1900;
    let (month, day) = (parts.tm_mon.saturating_add(1), parts.tm_mday);
    let (hour, minute, second) = (parts.tm_hour, parts.tm_min, parts.tm_sec);
    format!("{year}/{month:02}/{day:02}{separator}{hour:02}:{minute:02}:{second:02}")
}

/// Returns a name for output as rsync writes it: `\#` and three octal digits for each byte of a control
/// character, of what could reorder a terminal's text, and, unless `eight_bit`, of what is no UTF-8; a
/// backslash is escaped only where it would read as such an escape.
pub fn escape_name(name: &[u8], eight_bit: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut at = 0_usize;
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            let rest = name.get(at..).unwrap_or_default();
            let width = c.len_utf8();
            let bytes = rest.get(..width).unwrap_or_default();
            if hides(c) || (c == '\\' && reads_as_escape(rest)) {
                escape_bytes(bytes, &mut out);
            } else {
                out.extend_from_slice(bytes);
            }
            at = at.saturating_add(width);
        }
        if eight_bit {
            out.extend_from_slice(chunk.invalid());
        } else {
            escape_bytes(chunk.invalid(), &mut out);
        }
        at = at.saturating_add(chunk.invalid().len());
    }
    out
}

/// Whether a terminal would act on `c` instead of showing it. A tab is shown.
fn hides(c: char) -> bool {
    (c.is_control() && c != '\t')
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn reads_as_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'\\', b'#', a, b, c, ..] if [a, b, c].iter().all(|d| d.is_ascii_digit()))
}

fn escape_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        // Writing to a vector cannot fail.
        let _ = write!(out, "\\#{byte:03o}");
    }
}

#[cfg(test)]
#[path = "format/tests.rs"]
mod tests;
