//! One spelling of each path, so that one tree has one identity.
//!
//! **Purpose:** `/srv/www`, `/srv/www/`, `/srv//www/.`, `/srv/x/../www` and, in `/srv`, `www` are one path.
//! **In → Out:** a path as somebody wrote it; the same path absolute, without `.`, `..`, and doubled slashes.
//! **Invariants:** links are not resolved: where a deployment switches `/srv/current`, the path stays the
//! same. A `..` behind a link stays, since only the kernel knows where that leads. **Sources:**
//! path_resolution(7), pwd(1) for `$PWD`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Target;

/// Returns the one spelling of a path on this host; a relative one counts from the working directory as the
/// shell shows it.
pub fn local(path: &[u8]) -> Vec<u8> {
    let is_link = |path: &[u8]| Path::new(OsStr::from_bytes(path)).is_symlink();
    if path.starts_with(b"/") {
        return fold(path, is_link);
    }
    let dir = working_dir().into_os_string();
    fold(&[dir.as_bytes(), b"/", path].concat(), is_link)
}

/// As [`local`].
pub fn local_path(path: &Path) -> PathBuf {
    PathBuf::from(OsString::from_vec(local(path.as_os_str().as_bytes())))
}

/// Returns the one spelling of a target: on another host a relative path stays relative to the home there.
pub fn target(target: &Target) -> Target {
    let path = match &target.host {
        Some(_) => fold(&target.path, |_| false),
        None => local(&target.path),
    };
    Target { path, ..target.clone() }
}

/// Takes off what a path can do without. `is_link` says whether a path so far is a symbolic link.
fn fold(path: &[u8], is_link: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let root: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
    let joined = |names: &[&[u8]]| [root, &names.join(&b'/')].concat();
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => match names.last() {
                None if !root.is_empty() => {}
                Some(&last) if last != b".." && !is_link(&joined(&names)) => drop(names.pop()),
                _ => names.push(name),
            },
            _ => names.push(name),
        }
    }
    if names.is_empty() && root.is_empty() { b".".to_vec() } else { joined(&names) }
}

/// Returns the working directory: `$PWD` where that is the same directory, so that a link on the way keeps
/// its name.
fn working_dir() -> PathBuf {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let shown = std::env::var_os("PWD").map(PathBuf::from);
    let shown =
        shown.filter(|path| path.is_absolute() && id(path).is_some() && id(path) == id(Path::new(".")));
    shown.or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| PathBuf::from("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_target;

    #[test]
    fn every_spelling_of_a_path_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("real/below")).unwrap();
        std::os::unix::fs::symlink("real/below", top.join("link")).unwrap();
        let under = |text: &str| format!("{}/{text}", top.display());
        for (given, wanted) in [
            ("real/s", "real/s"),
            ("real/s/", "real/s"),
            ("real//s/.", "real/s"),
            ("./real/./s//", "real/s"),
            ("real/below/../s", "real/s"),
            ("real/missing/../s/", "real/s"),
            ("link/s/", "link/s"),
            // The kernel goes to `real`, not to where the link is.
            ("link/../s", "link/../s"),
            ("link/x/../s", "link/s"),
        ] {
            let folded = local(under(given).as_bytes());
            assert_eq!(String::from_utf8(folded).unwrap(), under(wanted), "{given:?}");
        }
        for (given, wanted) in [
            ("/", "/"),
            ("/..", "/"),
            ("h:/srv/./www//", "h:/srv/www"),
            ("h:/srv/../www", "h:/www"),
            ("h:", "h:."),
            ("h:./b/", "h:b"),
            ("h:b/..", "h:."),
            ("h:../b", "h:../b"),
            ("h:../../b/.", "h:../../b"),
        ] {
            assert_eq!(target(&parse_target(given).unwrap()).to_string(), wanted, "{given:?}");
        }
        let here = working_dir();
        for given in ["x", "./x", "x/", "y/../x"] {
            assert_eq!(local(given.as_bytes()), here.join("x").as_os_str().as_bytes(), "{given:?}");
        }
    }
}
