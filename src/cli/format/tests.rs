use super::super::itemize::{Changed, Update};
use super::*;

fn meta() -> Meta {
    Meta {
        kind: Kind::File,
        mode: 0o4755,
        uid: 1000,
        gid: 33,
        size: 1_234_567,
        mtime: Time { secs: 0, nanos: 0 },
        rdev: 0,
    }
}

fn render(format: &str, kind: Kind, name: &[u8], link: Option<&[u8]>) -> String {
    let meta = meta();
    let line = Line {
        item: Item { update: Update::Sent, kind, changed: Changed { new: true, ..Changed::default() } },
        operation: Operation::Send,
        name,
        source: b"/srv/www/",
        meta: Some(&meta),
        link,
        bytes: 2048,
        now: Time { secs: 0, nanos: 0 },
        pid: 42,
    };
    String::from_utf8(Format::parse(format).unwrap().render(&line, false)).unwrap()
}

#[test]
fn every_escape_is_filled() {
    for (format, expected) in [
        ("%i %n%L", "<f+++++++++ a/b"),
        ("%f %l %b %o %p", "srv/www/a/b 1234567 2048 send 42"),
        ("%B %U:%G 100%%", "rwsr-xr-x 1000:33 100%"),
        ("%'l %''l %'''b", "1,234,567 1.23M 2.00K"),
        ("[%10l][%-10l][%'12l]", "[   1234567][1234567   ][   1,234,567]"),
        ("no escape", "no escape"),
        ("", ""),
    ] {
        assert_eq!(render(format, Kind::File, b"a/b", None), expected, "{format}");
    }
    assert_eq!(render("%M", Kind::File, b"a", None).len(), "2026/11/21-10:48:14".len());
    assert_eq!(render("%t", Kind::File, b"a", None).as_bytes().get(10), Some(&b' '));
}

#[test]
fn directories_end_in_a_slash_and_links_show_where_they_lead() {
    assert_eq!(render("%n", Kind::Dir, b"d", None), "d/");
    assert_eq!(render("%n %f", Kind::Dir, b"", None), "./ srv/www/.");
    assert_eq!(render("%n%L", Kind::Symlink, b"l", Some(b"to\n")), "l -> to\\#012");
    assert_eq!(render("%n%L", Kind::File, b"h", Some(b"a")), "h => a");
}

#[test]
fn escapes_that_cannot_be_filled_are_refused() {
    for letter in ['c', 'C'] {
        assert_eq!(Format::parse(&format!("%{letter}")), Err(FormatError::Escape(letter)));
    }
    // What a daemon alone fills, and what is none, stands for itself.
    for letter in ['a', 'h', 'P', 'u', 'q', ' '] {
        let written = format!("%{letter}");
        assert_eq!(Format::parse(&written), Ok(Format { parts: vec![Part::Text(written.clone())] }));
        assert!(Format::parse(&format!("%9{letter}")).is_err());
    }
    assert_eq!(Format::parse("x%"), Err(FormatError::Open));
    assert_eq!(Format::parse("%9999n"), Err(FormatError::Width));
    assert_eq!(Format::parse("%99999999999999999999999n"), Err(FormatError::Width));
}

#[test]
fn default_formats_are_those_of_the_options() {
    assert_eq!(Ok(Format::itemized()), Format::parse("%i %n%L"));
    assert_eq!(Ok(Format::names()), Format::parse("%n%L"));
}

#[test]
fn names_cannot_forge_lines() {
    let text = |name: &[u8], eight_bit| String::from_utf8_lossy(&escape_name(name, eight_bit)).into_owned();
    assert_eq!(text(b"n\nl\\#012\\x\xff\xc3\xa9", false), "n\\#012l\\#134#012\\x\\#377é");
    assert_eq!(escape_name(b"\xff", true), b"\xff");
    assert_eq!(text(b"\x1b[2J\x7f\ta", false), "\\#033[2J\\#177\ta");
    assert_eq!(text("\u{202e}".as_bytes(), false), "\\#342\\#200\\#256");
    assert_eq!(text(b"\\#01", false), "\\#01");
    assert_eq!(text(b"", false), "");
}
