//! File names, from plain to hostile.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::support::rng::Rng;

/// Names that programs trip over; all are legal.
const ODD: &[&[u8]] = &[
    b"-rf",
    b"--delete",
    b"two\nlines",
    b"\n",
    b" ",
    b"trailing space ",
    b"tab\there",
    b"quote\"d",
    b"it's",
    b"back\\slash",
    b"*?[a-z]",
    b"$(id)",
    b"`id`",
    b";&|",
    b"#comment",
    b"~",
    b"...",
    b".hidden",
    b"C:drive",
    b"host:path",
    b"\xff\xfe",
    b"latin-\xe5",
    b"\xc3",
    "blåbær".as_bytes(),
    "bla\u{30a}bær".as_bytes(),
    b"\x1b[31mred\x1b[0m",
    b"\x7f",
    b"name.tmp",
    b".name.XyZ123",
    b"name~",
    b"CON",
    b"Same",
    b"same",
];

/// Returns a name for a file: mostly from a small pool, so that names come again.
pub fn file_name(rng: &mut Rng) -> OsString {
    match rng.below(24) {
        0 => long(rng, 255),
        1..=4 => odd(rng),
        _ => one_of("f", 60, rng),
    }
}

/// Returns a name for a directory: short, since many may stand in one path.
pub fn dir_name(rng: &mut Rng) -> OsString {
    match rng.below(24) {
        0 => long(rng, 100),
        1..=4 => odd(rng),
        _ => one_of("d", 20, rng),
    }
}

/// Returns one of so many plain names.
pub fn one_of(prefix: &str, count: usize, rng: &mut Rng) -> OsString {
    OsString::from(format!("{prefix}{}", rng.below(count)))
}

fn odd(rng: &mut Rng) -> OsString {
    OsString::from_vec(rng.pick(ODD).map_or_else(|| b"odd".to_vec(), |name| name.to_vec()))
}

/// Returns a name of `len` bytes that no other encoding would call so.
fn long(rng: &mut Rng, len: usize) -> OsString {
    let mut name = format!("long{}-", rng.below(4)).into_bytes();
    name.resize(len, if rng.one_in(2) { b'x' } else { 0xf8 });
    OsString::from_vec(name)
}
