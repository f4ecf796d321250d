//! Which differences `contrib/rsync-differences.md` allows.

use super::words::Case;

/// The table, whose rows are named by their beginnings.
const TABLE: &str = include_str!("../../../contrib/rsync-differences.md");

/// Returns the row that allows a difference; `None` if none does.
pub fn allowed(case: &Case, difference: &str) -> Option<&'static str> {
    let (kind, what) = difference.split_once(": ")?;
    let beside = case.words.iter().any(|word| word.contains("-dest="));
    let one_directory = matches!(&case.sources[..], [source] if !source.ends_with('/'));
    let row = match kind {
        "line" if one_directory => "lines of `-i` for a single directory without a slash",
        "line" if beside => "lines of `-i` with `--link-dest` and its like",
        "line" | "stats" if case.has("-H") && case.has("-n") => "a dry run with `-H`",
        "line" if case.has("-H") && what.contains(" xf") => {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "stats" if case.has("-H") => "`-H`, and a file whose names on the target are not the source's",
        "tree" if what.starts_with("kept/") && what.contains(": rsync nothing, speil link ") => {
            "`--backup`, and a symlink that gives way"
        }
        "tree" if case.has("-H") && is_believed(what) => {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "line" if case.has("-ii") && case.has("--ignore-existing") => "`-ii --ignore-existing`",
        "tree" | "stats" if case.has("-m") && (kind == "stats" || what.contains(": rsync dir ")) => {
            "`-m`, and a directory that holds only what is not sent"
        }
        "line" | "stats" if !case.deletes() && !case.keeps_times() => {
            "figures and lines of what cannot be made"
        }
        "tree" if case.has("--ignore-existing") && what.contains(": rsync file 15 297d87b7") => {
            "`--ignore-existing`, where the target has a file in the place of a directory"
        }
        "code" | "tree" if case.deletes() && case.names_files() && in_the_way(what) => {
            "a directory that holds something, in the place of a file that is named itself"
        }
        "tree" if what.starts_with("kept") && what.contains("rsync nothing, speil dir") => {
            "`--backup-dir=DIR` where nothing is replaced"
        }
        "tree" if one_directory && made_in_vain(case, what) => {
            "a single directory without a slash that is left out"
        }
        "tree" if beside && only_mode_differs(what) => "modes without `-p`, with `--link-dest` and its like",
        "code" if case.has("--ignore-existing") && what.starts_with("rsync 23 speil 0") => {
            "`--ignore-existing`, where the target has a file in the place of a directory"
        }
        "tree"
            if case.has("--size-only")
                && what.starts_with("src/")
                && what.contains(": rsync nothing, speil file") =>
        {
            "`--remove-source-files` with `--size-only`"
        }
        "stats" if one_directory && vain(case) => "a single directory without a slash that is left out",
        "stats" if case.sources.len() > 1 => "`--stats` of several sources",
        _ => return None,
    };
    assert!(TABLE.contains(&format!("| {row}")), "no row {row:?}");
    Some(row)
}

/// Whether rsync itself gave up, which says nothing of speil.
pub fn rsync_broke(difference: &str) -> bool {
    difference.starts_with("code: rsync 2 ") || difference.contains("[generator] gen_entry_copy_xattrs")
}

/// Whether both have an entry that rsync took for equal by its size and time, and speil made anew.
fn is_believed(what: &str) -> bool {
    !what.contains("rsync nothing")
        && what.split_once(", speil ").is_some_and(|(_, ours)| ours.contains(" now"))
}

/// Whether it is the source's own directory, or below it, which the words leave out.
fn made_in_vain(case: &Case, what: &str) -> bool {
    let top = format!("{}{}", case.target, case.sources[0]);
    let above = format!("{}: rsync dir ", case.target.trim_end_matches('/'));
    vain(case)
        && (what.starts_with(&top) && what.contains(": rsync nothing, speil ") || what.starts_with(&above))
}

fn vain(case: &Case) -> bool {
    case.has("--existing") || case.has("--exclude=*")
}

/// Whether a file that is named itself meets a directory.
fn in_the_way(what: &str) -> bool {
    what.starts_with("rsync 0 speil 23 ") || ["dst/a", "dst/b"].iter().any(|path| what.starts_with(path))
}

/// Whether two entries are alike but for their modes.
fn only_mode_differs(what: &str) -> bool {
    let Some((theirs, ours)) = what.split_once(", speil ") else { return false };
    let Some((_, theirs)) = theirs.rsplit_once(": rsync ") else { return false };
    let (theirs, ours): (Vec<&str>, Vec<&str>) = (theirs.split(' ').collect(), ours.split(' ').collect());
    let rest = |words: &[&str]| {
        words
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != 3)
            .map(|(_, word)| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    theirs.len() > 3 && theirs[0] == "file" && rest(&theirs) == rest(&ours)
}
