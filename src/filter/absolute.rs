//! The `/` modifier: a pattern for absolute paths, brought below the source.
//!
//! **In → Out:** an absolute pattern and the source's path → the same pattern, anchored at the source.
//! **Invariant:** what comes out matches the same entries below the source as rsync's `/` modifier
//! does on the sender; both hosts get the same rule. What cannot be brought over is refused.
//! **Sources:** rsync(1) "FILTER RULE MODIFIERS".

use super::glob::{Ends, Glob, Starts};
use super::glob::{has_deep, is_wild};

/// An absolute pattern as seen from the source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Below {
    Pattern(Vec<u8>),
    /// It matches nothing below the source.
    Nothing,
}

/// Returns what `pattern` matches below `source`; `None` if that is no single pattern, or if it takes
/// a source to tell and there is none.
pub(super) fn below(pattern: &[u8], source: Option<&[u8]>) -> Option<Below> {
    let Some(mut rest) = pattern.strip_prefix(b"/") else {
        // A lone name is compared with the last component, absolute or not.
        let body = pattern.strip_suffix(b"/").unwrap_or(pattern);
        let lone = !body.contains(&b'/') && !has_deep(body);
        return lone.then(|| Below::Pattern(pattern.to_vec()));
    };
    let wild = is_wild(pattern);
    for name in source?.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let (component, after) = rest.split_at_checked(end)?;
        if !component_matches(component, name, wild)? {
            return Some(Below::Nothing);
        }
        rest = after.get(1..).unwrap_or_default();
        if rest.is_empty() {
            // The pattern ends at the source or above it.
            return Some(Below::Nothing);
        }
    }
    let mut anchored = b"/".to_vec();
    if wild && !is_wild(rest) {
        anchored.extend(unescaped(rest));
    } else {
        anchored.extend_from_slice(rest);
    }
    Some(Below::Pattern(anchored))
}

/// Whether one component of the pattern matches `name`; `None` if it may match several components.
fn component_matches(component: &[u8], name: &[u8], wild: bool) -> Option<bool> {
    if !wild {
        return Some(component == name);
    }
    let glob = Glob::rsync(component);
    if glob.is_never() || has_deep(component) {
        return None;
    }
    Some(glob.matches([b"", name, b""], Starts::First, Ends::Last))
}

/// Drops the escapes of what was a wildcard pattern and is one no more.
fn unescaped(pattern: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = pattern.iter().copied();
    std::iter::from_fn(move || match bytes.next()? {
        b'\\' => bytes.next(),
        byte => Some(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(pattern: &str) -> Option<Below> {
        below(pattern.as_bytes(), Some(b"/srv/www"))
    }

    fn becomes(pattern: &str) -> Option<Below> {
        Some(Below::Pattern(pattern.as_bytes().to_vec()))
    }

    #[test]
    fn an_absolute_pattern_is_anchored_at_the_source() {
        assert_eq!(under("/srv/www/a/*.tmp"), becomes("/a/*.tmp"));
        assert_eq!(under("/srv/*/a/"), becomes("/a/"));
        assert_eq!(under("/s?v/www/**/x"), becomes("/**/x"));
        assert_eq!(under("/srv/*/a\\\\b"), becomes("/a\\b"));
        assert_eq!(under("*.tmp"), becomes("*.tmp"));
        assert_eq!(under("cache/"), becomes("cache/"));
        assert_eq!(below(b"/a", Some(b"/")), becomes("/a"));
    }

    #[test]
    fn a_pattern_of_another_place_matches_nothing() {
        for pattern in ["/srv/ftp/a", "/srv", "/srv/www", "/srv/www/", "/etc/passwd", "/"] {
            assert_eq!(under(pattern), Some(Below::Nothing), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_single_pattern_below_the_source_is_refused() {
        for pattern in ["www/a", "**/a", "/srv/**/a", "/s[r/]v/www/a", "a**"] {
            assert_eq!(under(pattern), None, "{pattern}");
        }
        assert_eq!(below(b"/srv/www/a", None), None);
    }
}
