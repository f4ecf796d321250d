//! Errors for people: one line, and a hint where there is something to do.

use std::error::Error;
use std::ffi::OsStr;
use std::io;

use crate::error::io_text;

/// How messages look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    color: bool,
}

impl Style {
    /// Returns the style for standard error: colour on a terminal, unless `NO_COLOR` or `TERM=dumb` says no.
    pub fn detect(terminal: bool) -> Self {
        Self::choose(terminal, std::env::var_os("NO_COLOR").as_deref(), std::env::var_os("TERM").as_deref())
    }

    fn choose(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        Self { color: terminal && !refused && term != Some(OsStr::new("dumb")) }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns `speil: message: cause: cause` and, if there is one, a line `hint: …`, with line ends.
pub fn render_error(error: &(dyn Error + 'static), hint: Option<&str>, style: Style) -> String {
    let mut message = plain(&words(error));
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&plain(&words(error)));
        cause = error.source();
    }
    let mut text = format!("{} {message}\n", style.paint("1;31", "speil:"));
    if let Some(hint) = hint {
        text.push_str(&format!("{} {}\n", style.paint("36", "hint:"), plain(hint)));
    }
    text
}

/// Returns `speil: note: …` with the line end.
pub fn render_note(note: &str, style: Style) -> String {
    format!("{} {}\n", style.paint("33", "speil: note:"), plain(note))
}

/// Returns what an error says itself; the system's errors by their errno.
fn words(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref::<io::Error>().map_or_else(|| error.to_string(), io_text)
}

/// Returns `text` in one line without control characters, whoever wrote it.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::CliError;
    use super::*;

    #[test]
    fn error_is_one_line_with_each_cause_once() {
        let error = CliError::List {
            option: "--exclude-from",
            path: "\"x\"".into(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        assert_eq!(
            render_error(&error, Some("look there"), Style::default()),
            "speil: --exclude-from \"x\" cannot be read: no such file or directory (ENOENT)\n\
             hint: look there\n"
        );
    }

    #[test]
    fn message_cannot_drive_a_terminal() {
        let error = CliError::Syntax("a\x1b[2J\nb".into());
        assert_eq!(render_error(&error, None, Style::default()), "speil: a\\u{1b}[2J b\n");
        assert_eq!(render_note("x\r", Style::default()), "speil: note: x\n");
    }

    #[test]
    fn colour_needs_a_terminal_and_no_refusal() {
        let color = |terminal, no_color: Option<&str>, term: &str| {
            Style::choose(terminal, no_color.map(OsStr::new), Some(OsStr::new(term))).color
        };
        assert!(color(true, None, "xterm"));
        assert!(color(true, Some(""), "xterm"));
        assert!(!color(true, Some("1"), "xterm"));
        assert!(!color(true, None, "dumb"));
        assert!(!color(false, None, "xterm"));
        let painted = render_note("x", Style { color: true });
        assert!(painted.starts_with("\x1b[33m"));
    }
}
