//! The files of one module import each other in no circle.
//!
//! **Invariants:** a file may use what the file above it holds (`receiver.rs` for `receiver/apply.rs`), which is
//! the module's face and not counted; every other import within a module is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Edges, cycle, repository, rust_files};
use crate::support::source_text::{code_of, test_files_of};

/// Its circles end with the ledger.
const NOT_YET: &str = "sender";

/// Returns the paths that `text` begins with: one, or those of a group in braces.
fn paths(prefix: &[String], text: &str, found: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let (mut depth, mut from) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    paths(prefix, &group[from..at], found);
                    from = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let path = [prefix, &[text[..end].to_owned()]].concat();
    match text[end..].strip_prefix("::") {
        Some(rest) if end > 0 => paths(&path, rest, found),
        _ => found.push(path),
    }
}

/// Returns the files of its own module that the file `own` names in `code`.
fn imports(own: &[String], code: &str, files: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let mut named = Vec::new();
    let is_inside = |at: usize| {
        code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    };
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !is_inside(*at)) {
        paths(&[], &code[at + "crate::".len()..], &mut named);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !is_inside(*at)) {
        let (mut rest, mut up) = (&code[at..], own);
        while let (Some(inner), Some((_, above))) = (rest.strip_prefix("super::"), up.split_last()) {
            (rest, up) = (inner, above);
        }
        paths(up, rest, &mut named);
    }
    for child in files.iter().filter(|file| file.len() == own.len() + 1 && file.starts_with(own)) {
        let name = format!("{}::", child[own.len()]);
        if code.match_indices(&name).any(|(at, _)| !is_inside(at)) {
            named.push(child.clone());
        }
    }
    let file_of = |path: Vec<String>| {
        (1..=path.len()).rev().map(|len| path[..len].to_vec()).find(|part| files.contains(part))
    };
    let same = |file: &Vec<String>| file[0] == own[0] && !own.starts_with(file);
    named.into_iter().filter_map(file_of).filter(same).collect()
}

/// Returns the code of every file below `src` that is no test, by its path in modules.
fn sources(src: &Path) -> BTreeMap<Vec<String>, String> {
    let files: Vec<_> = rust_files(src)
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("read a source");
            (path, text)
        })
        .collect();
    let tests: BTreeSet<_> = files.iter().flat_map(|(path, text)| test_files_of(path, text)).collect();
    let is_test = |path: &Path| {
        path.ancestors().any(|up| tests.contains(up) || tests.contains(&up.with_extension("rs")))
    };
    files
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| {
            let inner = path.strip_prefix(src).expect("below src").with_extension("");
            (inner.iter().map(|part| part.to_string_lossy().into_owned()).collect(), code_of(text))
        })
        .collect()
}

fn circle(sources: &BTreeMap<Vec<String>, String>) -> Option<Vec<String>> {
    let files: BTreeSet<Vec<String>> = sources.keys().cloned().collect();
    let edges: Edges = sources
        .iter()
        .filter(|(own, _)| own[0] != NOT_YET)
        .map(|(own, code)| {
            let used = imports(own, code, &files);
            (own.join("::"), used.into_iter().map(|file| file.join("::")).collect())
        })
        .collect();
    cycle(&edges)
}

#[test]
fn files_of_a_module_import_each_other_in_no_circle() {
    let sources = sources(&repository().join("src"));
    assert!(sources.len() > 100, "the sources were not found");
    let found = circle(&sources);
    assert!(found.is_none(), "a circle of imports: {}", found.unwrap_or_default().join(" → "));
}

#[test]
fn a_circle_is_found_through_groups_paths_and_children_and_not_through_the_face() {
    let file =
        |path: &str, code: &str| (path.split("::").map(str::to_owned).collect::<Vec<_>>(), code_of(code));
    let found = |files: &[(&str, &str)]| {
        circle(&files.iter().map(|(path, code)| file(path, code)).collect()).map(|circle| circle.join(" "))
    };
    let face = ("m", "mod a; mod b; pub use a::A; fn f() { b::go() }");
    assert_eq!(found(&[face, ("m::a", "use super::b::{B, C};"), ("m::b", "use super::F;")]), None);
    let circle = Some("m::a m::b m::a".to_owned());
    for back in ["use super::{x, a::{A, B}};", "fn f() { crate::m::a::go() }", "use crate::m::{F, a};"] {
        assert_eq!(found(&[face, ("m::a", "use super::b::B;"), ("m::b", back)]), circle, "{back}");
    }
    let below =
        [face, ("m::a", "mod deep; fn f() { deep::go() }"), ("m::a::deep", "use super::super::b::B;")];
    assert_eq!(found(&below), None);
    let round = [&below[..], &[("m::b", "use super::a::A;")]].concat();
    assert!(found(&round).is_some());
    assert_eq!(found(&[("sender::a", "use super::b;"), ("sender::b", "use super::a;")]), None);
}
