//! Rust sources as text: what is code, and what of it only tests compile.

use std::path::{Path, PathBuf};

const TEST_MARK: &str = "#[cfg(test)]";

/// Returns the code of a source: comments, the contents of literals and items under `#[cfg(test)]`
/// are gone, and so are the blanks around `::`.
pub fn code_of(text: &str) -> String {
    let plain = without_comments_and_literals(text);
    let mut code = String::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find(TEST_MARK) {
        code.push_str(&rest[..at]);
        let item = &rest[at + TEST_MARK.len()..];
        rest = &item[end_of_item(item)..];
    }
    code.push_str(rest);
    code.split("::").map(str::trim).collect::<Vec<_>>().join("::")
}

/// Returns the files of the modules that `text`, found at `path`, declares for tests alone.
pub fn test_files_of(path: &Path, text: &str) -> Vec<PathBuf> {
    let dir = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main" | "mod") | None => path.with_file_name(""),
        Some(_) => path.with_extension(""),
    };
    let plain = without_comments_and_literals(text);
    let declared = plain.split(TEST_MARK).skip(1).filter_map(|item| {
        let (_, name) = item[..end_of_item(item)].trim().strip_suffix(';')?.rsplit_once("mod ")?;
        Some(dir.join(format!("{}.rs", name.trim())))
    });
    declared.collect()
}

/// Returns where the first item of `code` ends: behind its `;`, or behind its closing brace.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks out comments, and what stands between the quotes of strings and characters.
fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment_len(rest),
            '"' => quoted_len(rest, '"'),
            'r' if !ends_in_word(&out) => raw_len(rest),
            '\'' if is_char(rest) => quoted_len(rest, '\''),
            _ => 0,
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push(' ');
            rest = &rest[skipped..];
        }
    }
    out
}

fn ends_in_word(text: &str) -> bool {
    // `br"…"` is a literal as well; a name that ends in b is none.
    let text = text.strip_suffix('b').unwrap_or(text);
    text.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Block comments nest.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a raw string, or 0 if `text` begins with none.
fn raw_len(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    text[start..].find(&close).map_or(text.len(), |at| start + at + close.len())
}

/// Whether a quote begins a character and no lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}
