//! The directory that SOURCE without a trailing slash becomes below each target, as in rsync.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::config::Target;
use crate::tree::quote;

/// Returns the last component of `source` where rsync would make it a directory below the target;
/// `None` if its content goes straight into the target: `a/`, `a/.`, `.`, `..`, `/`.
pub(super) fn carried_name(source: &OsStr) -> Option<&[u8]> {
    let name = source.as_bytes().rsplit(|&b| b == b'/').next()?;
    (!name.is_empty() && name != b"." && name != b"..").then_some(name)
}

/// Returns a path as a name for people: control characters escaped.
pub(super) fn shown(path: &[u8]) -> String {
    quote(path).trim_matches('"').to_owned()
}

/// Moves the target into the directory `name` below itself.
pub(super) fn descend(target: &mut Target, name: &[u8]) {
    if target.path == b"." {
        target.path.clear();
    } else if target.path != b"/" {
        target.path.push(b'/');
    }
    target.path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    fn target(text: &str) -> Target {
        parse_target(text).unwrap()
    }

    #[test]
    fn source_without_trailing_slash_carries_its_name() {
        for (source, name) in [
            ("/srv/www", Some("www")),
            ("www", Some("www")),
            ("/srv/www/", None),
            ("www/.", None),
            (".", None),
            ("..", None),
            ("a/..", None),
            ("/", None),
        ] {
            assert_eq!(carried_name(OsStr::new(source)), name.map(str::as_bytes), "{source}");
        }
        for (text, path) in [("h:/b", "/b/www"), ("h:", "www"), ("h:/", "/www"), ("b/", "b/www")] {
            let mut moved = target(text);
            descend(&mut moved, b"www");
            assert_eq!(moved.path, path.as_bytes(), "{text}");
        }
    }
}
