//! `ARCHITECTURE.md` says which module may use which; the sources agree.
//!
//! **Invariants:** the module table is exact: an import that it does not list fails, and so does a
//! listed import that no longer exists, a module without a row, an upward edge and a cycle.
//! **Not here:** what stands under `#[cfg(test)]`; a test may reach anywhere.

mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::source_text::{code_of, test_files_of};

/// What each module uses.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// The table of `ARCHITECTURE.md`.
#[derive(Default)]
struct Table {
    levels: BTreeMap<String, u32>,
    edges: Edges,
}

impl Table {
    /// Reads the rows `| level | module, module | may use | holds |`.
    fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            let [level, modules, uses, _] = cells[..] else { continue };
            let Ok(level) = level.parse() else { continue };
            for module in quoted(modules) {
                assert!(
                    table.levels.insert(module.clone(), level).is_none(),
                    "`{module}` has two rows in ARCHITECTURE.md"
                );
                table.edges.insert(module, quoted(uses).into_iter().collect());
            }
        }
        table
    }

    /// Returns what is wrong with `real`, and with the table itself; one line each.
    fn complaints(&self, real: &Edges) -> Vec<String> {
        let mut wrong = Vec::new();
        for module in real.keys().filter(|module| !self.levels.contains_key(*module)) {
            wrong.push(format!("`{module}` has no row"));
        }
        for module in self.levels.keys().filter(|module| !real.contains_key(*module)) {
            wrong.push(format!("`{module}` has a row and no source"));
        }
        let none = BTreeSet::new();
        for (module, used) in real {
            let listed = self.edges.get(module).unwrap_or(&none);
            for other in used.difference(listed) {
                wrong.push(format!("`{module}` uses `{other}`, which its row does not list"));
            }
            for other in listed.difference(used) {
                wrong.push(format!("`{module}` does not use `{other}`, which its row lists"));
            }
            for other in used {
                if self.levels.get(other) > self.levels.get(module) {
                    wrong.push(format!("`{module}` reaches up to `{other}`"));
                }
            }
        }
        wrong.extend(cycle(real).map(|path| format!("a cycle: {}", path.join(" → "))));
        wrong
    }
}

/// Returns the words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns a cycle, if there is one.
fn cycle(edges: &Edges) -> Option<Vec<String>> {
    fn visit(at: &str, edges: &Edges, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(start) = path.iter().position(|name| name == at) {
            path.drain(..start);
            path.push(at.to_owned());
            return true;
        }
        if done.contains(at) {
            return false;
        }
        path.push(at.to_owned());
        if edges.get(at).into_iter().flatten().any(|next| visit(next, edges, path, done)) {
            return true;
        }
        path.pop();
        done.insert(at.to_owned());
        false
    }
    let (mut path, mut done) = (Vec::new(), BTreeSet::new());
    edges.keys().any(|start| visit(start, edges, &mut path, &mut done)).then_some(path)
}

/// Returns the modules of this crate that `code` names, `*` for all of them. `depth` is how many
/// `super::` lead from the file to the crate's root.
fn references(code: &str, depth: usize) -> BTreeSet<String> {
    let up = "super::".repeat(depth);
    let mut found = BTreeSet::new();
    for prefix in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            found.extend(first_names(&code[at + prefix.len()..]));
        }
    }
    found
}

/// Returns the first name of a path, or of each path in braces.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(group) = rest.trim_start().strip_prefix('{') else { return vec![name(rest)] };
    let mut names = vec![name(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Returns every Rust file below `dir`, sorted.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("list sources") {
        let path = entry.expect("list sources").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns what each module of `src` uses outside its tests, and which of them name all modules at once.
fn real_edges(src: &Path) -> (Edges, Vec<String>) {
    let files = rust_files(src);
    let texts: Vec<(PathBuf, String)> =
        files.iter().map(|path| (path.clone(), fs::read_to_string(path).expect("read a source"))).collect();
    let tests: BTreeSet<PathBuf> = texts.iter().flat_map(|(path, text)| test_files_of(path, text)).collect();
    let (mut edges, mut stars) = (Edges::new(), Vec::new());
    for (path, text) in &texts {
        let inner = path.strip_prefix(src).expect("below src");
        let parts: Vec<String> =
            inner.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let is_test =
            path.ancestors().any(|up| tests.contains(up) || tests.contains(&up.with_extension("rs")));
        if parts == ["lib"] || parts == ["main"] || is_test {
            continue;
        }
        let mut used = references(&code_of(text), parts.len());
        if used.remove("*") {
            stars.push(inner.display().to_string());
        }
        used.remove(&parts[0]);
        edges.entry(parts[0].clone()).or_default().extend(used);
    }
    (edges, stars)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn modules_use_what_the_architecture_lists_and_nothing_else() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("read ARCHITECTURE.md");
    let table = Table::parse(&text);
    let (real, stars) = real_edges(&repository().join("src"));
    assert!(real.len() >= 15, "the sources were not found: {real:?}");
    assert_eq!(stars, Vec::<String>::new(), "`use crate::*` hides what is used");
    let wrong = table.complaints(&real);
    assert!(wrong.is_empty(), "ARCHITECTURE.md and src/ disagree:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_module_of_the_library_has_a_row_and_the_program_uses_the_command_line_alone() {
    let text = fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("read ARCHITECTURE.md");
    let table = Table::parse(&text);
    let library = fs::read_to_string(repository().join("src/lib.rs")).expect("read src/lib.rs");
    let declared: BTreeSet<&str> =
        library.lines().filter_map(|line| line.trim().split_once("mod ")?.1.strip_suffix(';')).collect();
    let listed: BTreeSet<&str> = table.levels.keys().map(String::as_str).collect();
    assert_eq!(declared, listed);
    let program = fs::read_to_string(repository().join("src/main.rs")).expect("read src/main.rs");
    assert!(code_of(&program).split("speil::").skip(1).all(|rest| rest.starts_with("cli::")));
}

#[test]
fn references_are_found_in_paths_groups_and_through_super() {
    let code = "use crate::tree::RelPath; use crate::{error::{io_text, self}, disk};\n\
        fn f() { super::super::scan::walk(); super::near(); mycrate::no(); crate :: spaced }";
    let expected = ["tree", "error", "disk", "scan"].map(str::to_owned);
    assert_eq!(references(code, 2), BTreeSet::from(expected));
    assert!(references("use crate::*;", 1).contains("*"));
    assert!(references("use crate::{tree, *};", 1).contains("*"));
}

#[test]
fn what_only_tests_use_is_no_edge() {
    let text = "use crate::tree::A;\n// crate::cli\nconst S: &str = \"crate::scan { \";\n\
        #[cfg(test)]\nmod tests { use crate::disk::B; fn f() { let c = '{'; } }\nuse crate::error::C;";
    let expected = ["tree", "error"].map(str::to_owned);
    assert_eq!(references(&code_of(text), 1), BTreeSet::from(expected));
    let apart = test_files_of(Path::new("src/a.rs"), "#[cfg(test)]\nmod tests;\nmod other;");
    assert_eq!(apart, [PathBuf::from("src/a/tests.rs")]);
}

#[test]
fn each_way_to_break_the_layers_is_told() {
    let table = Table::parse("| 0 | `low` | `gone` | x |\n| 0 | `gone` | | x |\n| 1 | `high` | `low` | x |");
    let edge = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|&to| to.to_owned()).collect());
    let real = Edges::from([edge("low", &["high"]), edge("high", &["low"]), edge("new", &[])]);
    assert_eq!(
        table.complaints(&real),
        [
            "`new` has no row",
            "`gone` has a row and no source",
            "`low` uses `high`, which its row does not list",
            "`low` does not use `gone`, which its row lists",
            "`low` reaches up to `high`",
            "a cycle: high → low → high",
        ]
    );
}
