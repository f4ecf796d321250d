//! Pages of `docs/` inside the program: `speil help TOPIC`, and speil.lua(5).
//!
//! **In → Out:** Markdown as the pages use it → text, or a man page. **Invariant:** one source: what man(1) and
//! `speil help` show is what stands in `docs/`. **Not here:** the pages of the commands (`execute/manual.rs`).

use std::fmt::Write as _;

/// Names of the pages, and the pages.
const TOPICS: [(&str, &str); 8] = [
    ("getting-started", include_str!("../../docs/getting-started.md")),
    ("configuration", include_str!("../../docs/configuration.md")),
    ("operations", include_str!("../../docs/operations.md")),
    ("failover", include_str!("../../docs/failover.md")),
    ("from-rsync", include_str!("../../docs/from-rsync.md")),
    ("from-lsyncd", include_str!("../../docs/from-lsyncd.md")),
    ("monitoring", include_str!("../../docs/monitoring.md")),
    ("limits", include_str!("../../docs/limits.md")),
];

/// Returns the page of this name.
pub(super) fn topic(name: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(topic, _)| *topic == name).map(|(_, page)| *page)
}

/// Returns the names of the pages.
pub(super) fn all() -> [&'static str; 8] {
    TOPICS.map(|(name, _)| name)
}

/// Returns the names of the pages, for people.
pub(super) fn names() -> String {
    all().join(", ")
}

/// Returns speil.lua(5).
pub(super) fn configuration_man() -> String {
    let page = topic("configuration").unwrap_or_default();
    let body = page.split_once('\n').map_or(page, |(_, body)| body);
    let head = concat!(".TH speil.lua 5 \"\" \"speil ", env!("CARGO_PKG_VERSION"), "\" \"File Formats\"\n");
    format!(
        "{head}.SH NAME\nspeil.lua \\- the configuration of speil\n.SH DESCRIPTION\n{}.SH SEE ALSO\n\
         \\fBspeil\\fR(1), \\fBspeil\\-run\\fR(1), \\fBspeil\\-check\\fR(1)\n",
        man_of(body)
    )
}

/// Returns the body of a man page.
fn man_of(markdown: &str) -> String {
    let (mut man, mut code, mut header) = (String::new(), false, true);
    for line in markdown.lines() {
        if line.starts_with("```") {
            code = !code;
            man.push_str(if code { ".PP\n.nf\n.RS 4\n" } else { ".RE\n.fi\n" });
        } else if code {
            let _ = writeln!(man, "{}", guarded(&escaped(line)));
        } else if let Some(title) = line.strip_prefix("## ") {
            let _ = writeln!(man, ".SH {}", inline(title).to_uppercase());
        } else if let Some(title) = line.strip_prefix("### ") {
            let _ = writeln!(man, ".SS {}", inline(title));
        } else if line.starts_with("- [") && line.contains("](#") {
            // A table of contents: man(1) needs none.
        } else if let Some(item) = line.strip_prefix("- ") {
            let _ = writeln!(man, ".IP \\(bu 2\n{}", guarded(&inline(item)));
        } else if line.starts_with('|') {
            row(&mut man, line, &mut header);
        } else if line.is_empty() {
            header = true;
        } else {
            let _ = writeln!(man, ".PP\n{}", guarded(&inline(line)));
        }
    }
    man
}

/// Adds a row of a table: its first cell, then the others.
fn row(man: &mut String, line: &str, header: &mut bool) {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    if line.starts_with("|---") {
        *header = false;
    } else if !*header {
        let text = match cells[1..] {
            [default, meaning] => format!("{} (default: {})", inline(meaning), inline(default)),
            _ => inline(&cells[1..].join("; ")),
        };
        let _ = writeln!(man, ".TP\n{}\n{}", guarded(&inline(cells[0])), guarded(&text));
    }
}

/// Returns a line that no request begins.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Returns a text with bold type for what is marked, and links as their words alone.
fn inline(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((words, (_, behind))) =
            after.split_once("](").and_then(|(words, link)| Some((words, link.split_once(')')?)))
        else {
            break;
        };
        plain.push_str(before);
        plain.push_str(words);
        rest = behind;
    }
    plain.push_str(rest);
    let mut man = String::new();
    for (number, part) in plain.replace("**", "`").split('`').enumerate() {
        let part = escaped(part);
        if number % 2 == 1 {
            let _ = write!(man, "\\fB{part}\\fR");
        } else {
            man.push_str(&part);
        }
    }
    man
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_man_page_has_the_words_of_the_page_and_no_mark_of_it() {
        let page = "## settings\n\nA `key`, see [there](x.md#y).\n\n| key | default | meaning |\n|---|---|---|\n\
                    | `a`, `b` | none | It -- is |\n\n```lua\n.x = \"\\n\"\n```\n- **one** thing\n";
        let man = ".SH SETTINGS\n.PP\nA \\fBkey\\fR, see there.\n.TP\n\\fBa\\fR, \\fBb\\fR\nIt \\-\\- is (default: none)\n\
                   .PP\n.nf\n.RS 4\n\\&.x = \"\\en\"\n.RE\n.fi\n.IP \\(bu 2\n\\fBone\\fR thing\n";
        assert_eq!(man_of(page), man);
    }
}
