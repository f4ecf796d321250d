//! `[USER@]HOST:PATH` or PATH.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::config::Target;
use crate::tree::quote;

/// Why an argument is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// rsync's own daemon protocol.
    #[error("an rsync daemon is not available; speil runs its agent over ssh: [USER@]HOST:PATH")]
    Daemon,
    /// A colon without a host before it.
    #[error("no host before the colon; write ./NAME for a local path with a colon")]
    NoHost,
    /// ssh would take the host for an option.
    #[error("a host must not begin with \"-\"")]
    Dash,
    /// Blanks, control characters or bytes that no host name has.
    #[error("the host holds characters that no host name has")]
    HostText,
    /// Another user's home.
    #[error("~USER is not expanded; write the path in full")]
    OtherHome,
}

/// The two parts of an argument.
enum Spec<'a> {
    Local,
    Remote { host: &'a [u8], path: &'a [u8] },
    Daemon,
}

/// Takes `text` apart by rsync's rule: a colon before the first slash ends a host; an address in brackets
/// may hold colons.
fn split(text: &[u8]) -> Spec<'_> {
    if text.len() >= 8 && text[..8].eq_ignore_ascii_case(b"rsync://") {
        return Spec::Daemon;
    }
    let user = text.iter().position(|&b| b == b'@' || b == b'/' || b == b':');
    let bare = match user {
        Some(at) if text.get(at) == Some(&b'@') => at.saturating_add(1),
        _ => 0,
    };
    let from = match text.get(bare..) {
        Some(rest) if rest.first() == Some(&b'[') => {
            let close = rest.iter().position(|&b| b == b']' || b == b'/');
            close.filter(|&at| rest.get(at) == Some(&b']')).map_or(0, |at| bare.saturating_add(at))
        }
        _ => 0,
    };
    let stop = text.iter().skip(from).position(|&b| b == b':' || b == b'/').map(|at| at.saturating_add(from));
    match stop {
        Some(at) if text.get(at) == Some(&b':') => {
            let (host, path) = (&text[..at], text.get(at.saturating_add(1)..).unwrap_or_default());
            if path.first() == Some(&b':') { Spec::Daemon } else { Spec::Remote { host, path } }
        }
        _ => Spec::Local,
    }
}

/// Whether `text` names another host.
pub(super) fn is_remote(text: &OsStr) -> bool {
    !matches!(split(text.as_bytes()), Spec::Local)
}

/// Parses a target. Its name is the host without the user, or the path of a local one.
///
/// # Errors
/// [`TargetError`] for an rsync daemon, an empty or unusable host, and an empty path on this host.
pub(super) fn parse_target(text: &OsStr) -> Result<Target, TargetError> {
    match split(text.as_bytes()) {
        Spec::Daemon => Err(TargetError::Daemon),
        Spec::Local => {
            let path = trimmed(text.as_bytes());
            if path.is_empty() {
                return Err(TargetError::Empty);
            }
            Ok(Target { host: None, path: path.to_vec(), name: shown(path) })
        }
        Spec::Remote { host, path } => {
            let host = parse_host(host)?;
            let name = host.rsplit('@').next().unwrap_or(&host).to_owned();
            Ok(Target { path: remote_path(path)?, name, host: Some(host) })
        }
    }
}

/// Checks a host with its user; brackets around an address go, ssh wants none.
fn parse_host(host: &[u8]) -> Result<String, TargetError> {
    let host = std::str::from_utf8(host).map_err(|_| TargetError::HostText)?;
    let (user, name) = match host.rsplit_once('@') {
        Some((user, name)) => (Some(user), name),
        None => (None, host),
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if name.is_empty() || user == Some("") {
        return Err(TargetError::NoHost);
    }
    if name.starts_with('-') || host.starts_with('-') {
        return Err(TargetError::Dash);
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || "[]'\"\\`$;&|<>(){}*?".contains(c);
    if name.contains(odd) || user.is_some_and(|user| user.contains(odd)) {
        return Err(TargetError::HostText);
    }
    Ok(match user {
        Some(user) => format!("{user}@{name}"),
        None => name.to_owned(),
    })
}

/// Returns a path on another host: `~/` is where ssh starts anyway, and so is the empty path.
fn remote_path(path: &[u8]) -> Result<Vec<u8>, TargetError> {
    let path = match path.strip_prefix(b"~") {
        None => path,
        Some(b"") => b"",
        Some(rest) => rest.strip_prefix(b"/").ok_or(TargetError::OtherHome)?,
    };
    let path = trimmed(path);
    Ok(if path.is_empty() { b".".to_vec() } else { path.to_vec() })
}

/// Returns `path` without trailing slashes; the root stays.
fn trimmed(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&b| b != b'/') {
        Some(last) => path.get(..=last).unwrap_or(path),
        None => path.get(..1).unwrap_or_default(),
    }
}

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
    if target.host.is_none() {
        target.name = shown(&target.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        parse_target(OsStr::new(text)).unwrap()
    }

    #[test]
    fn colon_before_the_first_slash_ends_a_host() {
        for (text, host, path, name) in [
            ("/srv/a:b", None, "/srv/a:b", "/srv/a:b"),
            ("./a:b/", None, "./a:b", "./a:b"),
            ("/", None, "/", "/"),
            ("web:/srv//", Some("web"), "/srv", "web"),
            ("root@10.0.0.2:/var/www/", Some("root@10.0.0.2"), "/var/www", "10.0.0.2"),
            ("web:", Some("web"), ".", "web"),
            ("web:~/x", Some("web"), "x", "web"),
            ("web:~", Some("web"), ".", "web"),
            ("web:/", Some("web"), "/", "web"),
            ("u@[fe80::1]:/x", Some("u@fe80::1"), "/x", "fe80::1"),
            ("[::1]:x", Some("::1"), "x", "::1"),
        ] {
            let expected = Target {
                host: host.map(str::to_owned),
                path: path.as_bytes().to_vec(),
                name: name.to_owned(),
            };
            assert_eq!(target(text), expected, "{text}");
        }
    }

    #[test]
    fn targets_that_ssh_or_a_shell_could_misread_are_refused() {
        for (text, error) in [
            ("", TargetError::Empty),
            ("web::uploads", TargetError::Daemon),
            ("rsync://web/uploads", TargetError::Daemon),
            ("RSYNC://web/uploads", TargetError::Daemon),
            (":/x", TargetError::NoHost),
            ("@web:/x", TargetError::NoHost),
            ("-oProxyCommand=x:/x", TargetError::Dash),
            ("root@-x:/x", TargetError::Dash),
            ("a b:/x", TargetError::HostText),
            ("a;b:/x", TargetError::HostText),
            ("web:~bob/x", TargetError::OtherHome),
        ] {
            assert_eq!(parse_target(OsStr::new(text)), Err(error), "{text}");
        }
        assert_eq!(parse_target(OsStr::from_bytes(b"w\xff:/x")), Err(TargetError::HostText));
        assert_eq!(parse_target(OsStr::from_bytes(b"/\xff")).unwrap().path, b"/\xff");
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
