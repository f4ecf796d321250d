//! What rules say below directories: of two names, and of a filter that stands above another.

use proptest::prelude::{Strategy, prop_assert_eq};
use proptest::proptest;

use super::{filter, path};
use crate::filter::{Filter, Side};
use crate::tree::RelPath;

#[test]
fn rules_that_go_by_names_alone_say_the_same_below_every_directory() {
    let same = |rule: &str, one: &str, other: &str| filter(&[rule]).is_same_below(&path(one), &path(other));
    for (rule, one, other) in [
        ("- *.tmp", "a", "b/c"),
        ("- cache/", "a", "cache"),
        ("- /cache/", "a", "b"),
        ("- d/*", "a/d", "b/d"),
        ("- /*/cache/", "a", "b"),
        ("- /a/b/*.o", "c", "d/e"),
        ("lsyncd- /x/", "a", "b"),
    ] {
        assert!(same(rule, one, other), "{rule}: {one}, {other}");
    }
    for (rule, one, other) in [
        ("- d/*", "a", "d"),
        ("- /a/b", "a", "c"),
        ("- /*/cache/", "a", "a/b"),
        ("- a/**/x", "a", "b"),
        ("- **/a/x", "a", "b"),
        ("lsyncd- a/x", "a", "b"),
    ] {
        assert!(!same(rule, one, other), "{rule}: {one}, {other}");
    }
}

#[test]
fn what_a_filter_above_hides_no_rule_below_shows() {
    let above = filter(&["- /sub/secret/", "- *.key", "H hidden", "- /sub/old/x"]);
    let own = filter(&["+ *", "- never"]).beneath(&above, &path("sub"));
    for (name, dir) in [("secret", true), ("secret/a", false), ("x/a.key", false), ("x/hidden/y", false)] {
        assert!(own.excludes(&path(name), dir), "{name}");
        assert!(own.excludes_entry(&path(name), dir), "{name}");
    }
    for (name, dir) in [("x/secret", true), ("secret", false), ("x", false), ("never", false)] {
        assert!(!own.excludes(&path(name), dir) && !own.excludes_entry(&path(name), dir), "{name}");
        assert!(!own.protects_entry(&path(name), dir));
    }
    assert!(!own.excludes(&RelPath::root(), true) && !own.is_empty());
    assert!(Filter::default().beneath(&Filter::default(), &path("a")).is_empty());
    assert!(!own.is_same_below(&path("old"), &path("other")));
    let own = own.with_delete_excluded();
    assert!(own.excludes(&path("a.key"), false) && !own.protects_entry(&path("a.key"), false));
}

#[test]
fn what_the_target_keeps_in_any_case_is_hidden_on_the_source_and_protected_here() {
    let rules = filter(&["- /cache/", "P kept/", "H hidden", "-p *.tmp", "- *.key"]);
    for (name, dir) in [("cache", true), ("cache/a", false), ("x.key", false), ("d/x.key/y", false)] {
        assert!(rules.withholds(&path(name), dir), "{name}");
    }
    for (name, dir) in [("kept", true), ("kept/a", false), ("hidden", false), ("x.tmp", false), ("a", false)]
    {
        assert!(!rules.withholds(&path(name), dir), "{name}");
    }
    assert!(!rules.with_delete_excluded().withholds(&path("x.key"), false));
}

fn any_text(alphabet: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(alphabet), 1..7).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn below_directories_that_are_the_same_to_the_rules_every_path_is(
        pattern in any_text(&["a", "b", "/", "*", "**", "?", "[ab]"]),
        kind in proptest::sample::select(&["- ", "+ ", "-! ", "lsyncd- "][..]),
        names in proptest::collection::vec(any_text(&["a", "b", "a/b", "/"]), 3),
        dir: bool,
    ) {
        let paths: Vec<Option<RelPath>> =
            names.iter().map(|name| RelPath::try_from(name.trim_matches('/')).ok()).collect();
        let rules = Filter::new(&[format!("{kind}{pattern}")]);
        if let ([Some(one), Some(other), Some(below)], Ok(rules)) = (&paths[..], rules)
            && [one, other, below].iter().all(|path| !path.is_root())
            && rules.is_same_below(one, other)
        {
            for side in [Side::Sender, Side::Receiver] {
                let says = |top: &RelPath| rules.which_entry(&below.components().fold(top.clone(), |path, name| path.join(name)), dir, side);
                prop_assert_eq!(says(one), says(other));
            }
        }
    }
}
