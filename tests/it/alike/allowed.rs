//! Which differences `contrib/rsync-differences.md` allows.

use super::look::SOURCES;
use super::words::{Case, Place};

/// The table, whose rows are named by their beginnings.
const TABLE: &str = include_str!("../../../contrib/rsync-differences.md");

/// Returns the row that allows a difference; `None` if none does.
pub fn allowed(case: &Case, difference: &str) -> Option<&'static str> {
    let (kind, what) = difference.split_once(": ")?;
    let beside = case.words.iter().any(|word| word.contains("-dest="));
    let one_directory = matches!(&case.sources[..], [source] if !source.ends_with('/'));
    let row = match kind {
        "line" if beside && is_told_of_older(case, what) => "lines of `-i` with `--link-dest` and its like",
        "line" | "stats" if case.has("-H") && case.has("-n") => "a dry run with `-H`",
        "line" if case.has("-H") && is_of_names(what) => {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "stats" if case.has("-H") && is_of_sending(what) => {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "tree"
            if case.keeps_old()
                && (what.contains(": rsync nothing, speil link ")
                    || what.contains(": rsync nothing, speil fifo ")) =>
        {
            "`--backup`, and a symlink or FIFO that gives way"
        }
        "tree" if case.has("-H") && is_believed(what) => {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "tree" | "line" if case.has("-m") && case.follows() && what.contains("rsync nothing, speil ") => {
            "`-m`, and a directory that holds only what cannot be read"
        }
        "tree" if case.has("-H") && case.keeps_old() && what.contains(": rsync nothing, speil file") => {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "tree" if case.has("-H") && beside && only_differs_in_names(what) => {
            "`-H` with `--link-dest` and its like"
        }
        "stats" if (case.has("-R") || case.has("--files-from=@/list")) && is_of_list(what) => {
            "`--stats` of several sources"
        }
        "code" | "tree" if case.deletes() && case.has("--exclude=b/") && is_protected_in_the_way(what) => {
            "a directory that a rule protects, in the place of a file"
        }
        "tree"
            if case.has("-H")
                && !case.has("-a")
                && what.ends_with(SOURCES)
                && only_differs(what, "file", 4) =>
        {
            "`-H`, and a file whose names on the target are not the source's"
        }
        "tree"
            if case.place == Place::Pull
                && case.has("-C")
                && case.has("--delete-excluded")
                && what.ends_with(", speil nothing") =>
        {
            "`-C` with `--delete-excluded` in a pull"
        }
        "line" if case.has("--modify-window=1") && tells_too(what, 4) => "times within `--modify-window`",
        "tree" if case.has("--modify-window=1") && only_time_differs(what) => {
            "times within `--modify-window`"
        }
        "line"
            if case.has("-n") && case.protects() && what.ends_with("/: rsync *deleting  , speil nothing") =>
        {
            "a dry run with `--delete`, and a directory that keeps something"
        }
        "stats" if case.has("-n") && case.protects() && what.starts_with("Number of deleted files") => {
            "a dry run with `--delete`, and a directory that keeps something"
        }
        "tree"
            if case.has("--remove-source-files")
                && what.starts_with("src")
                && only_differs(what, "dir", 3) =>
        {
            "`--remove-source-files`, and a file of another content"
        }
        "tree"
            if case.has("--remove-source-files")
                && beside
                && what.starts_with("src/")
                && (what.contains(": rsync link ") || what.contains(": rsync fifo "))
                && what.ends_with(", speil nothing") =>
        {
            "`--remove-source-files` with `--link-dest`"
        }
        "line" if case.has("--mkpath") && what.starts_with("./: rsync .d") => {
            "a target that `--mkpath` makes"
        }
        "line" if case.has("-A") && tells_too(what, 9) => "`-A` with `--chmod`",
        "line" if cannot_be_made(what) => "lines of what cannot be made",
        "tree" if case.has("--ignore-existing") && what.contains(": rsync file 15 297d87b7") => {
            "`--ignore-existing`, where the target has a file in the place of a directory"
        }
        "tree" if case.has("--ignore-existing") && only_differs(what, "file", 5) => {
            "`--ignore-existing`, where the target has a file in the place of a directory"
        }
        "line" if case.has("--ignore-existing") && what.ends_with("/: rsync cd+++++++++, speil nothing") => {
            "`--ignore-existing`, where the target has a file in the place of a directory"
        }
        "tree"
            if what.starts_with("kept/")
                && !case.has("-p")
                && !case.has("-a")
                && lacks_bits(what, 0o2000) =>
        {
            "a directory below `--backup-dir`, without `-p`"
        }
        "line" if case.changes_owners() && tells_owner_too(what) => {
            "a set-uid or set-gid file whose owner or group changes"
        }
        "tree" if case.has("--mkpath") && what.starts_with("new: ") && only_differs(what, "dir", 1) => {
            "a target that `--mkpath` makes"
        }
        "tree" if case.changes_owners() && lacks_bits(what, 0o6000) => {
            "a set-uid or set-gid file whose owner or group changes"
        }
        "line" if case.changes_owners() && hides_owner(what) => {
            "a set-uid or set-gid file whose owner or group changes"
        }
        "tree"
            if case.has("--remove-source-files")
                && what.starts_with("src/")
                && what.contains(": rsync nothing, speil file") =>
        {
            "`--remove-source-files`, and a file of another content"
        }
        "tree" if what.starts_with("kept") && what.contains("rsync nothing, speil dir") => {
            "`--backup-dir=DIR` where nothing is replaced"
        }
        "line" if one_directory && vain(case) && what == "./: rsync nothing, speil cd+++++++++" => {
            "directories without a slash that are left out"
        }
        "stats" if case.has("--mkpath") && what.starts_with("Number of created files") => {
            "a target that `--mkpath` makes"
        }
        "stats" if case.has("-m") && what.starts_with("Number of files") => "`-m` |",
        "tree" if !case.keeps_modes() && what.contains(": rsync fifo ") && only_differs(what, "fifo", 1) => {
            "another kind of entry in the place of a file, without `-p`"
        }
        "tree"
            if vain(case) && case.target == "new/" && what == "new: rsync nothing, speil dir 755 0:0 now" =>
        {
            "directories without a slash that are left out"
        }
        "tree" if one_directory && made_in_vain(case, what) => {
            "directories without a slash that are left out"
        }
        "tree" if beside && only_differs(what, "file", 3) => {
            "modes without `-p`, with `--link-dest` and its like"
        }
        "code" if case.has("--ignore-existing") && what.starts_with("rsync 23 speil 0") => {
            "`--ignore-existing`, where the target has a file in the place of a directory"
        }
        "stats" if one_directory && vain(case) => "directories without a slash that are left out",
        "stats" if case.sources.len() > 1 && is_of_list(what) => "`--stats` of several sources",
        "tree" | "line" if case.has("--max-delete=2") && is_choice(what) => {
            "`--max-delete=N`: which N are removed"
        }
        "stats" if what.starts_with("Number of deleted files") && case.has("--max-delete=2") => {
            "`--max-delete=N`: which N are removed"
        }
        _ => return None,
    };
    assert!(TABLE.contains(&format!("| {row}")), "no row {row:?}");
    Some(row)
}

/// Whether rsync itself gave up, which says nothing of speil.
pub fn rsync_broke(difference: &str) -> bool {
    ["code: rsync 2 ", "code: rsync 124 ", "code: rsync 137 "]
        .iter()
        .any(|front| difference.starts_with(front))
        || difference.contains("rejecting excluded file-list name")
        || difference.contains("[generator] gen_entry_copy_xattrs")
}

/// Whether both have an entry that rsync took for equal by its size and time, and speil made anew.
fn is_believed(what: &str) -> bool {
    !what.contains("rsync nothing")
        && what
            .split_once(", speil ")
            .is_some_and(|(_, ours)| ours.contains(" now") || ours.contains(SOURCES))
}

/// Whether a path is told of by both, is a directory, or is as the older tree holds it.
fn is_told_of_older(case: &Case, what: &str) -> bool {
    let older = case.words.iter().any(|word| word.starts_with("--co"));
    let times = if what.contains("/: rsync ") { " .Tt" } else { " .T" };
    let is_same = |told: &str| told.len() == 11 && told[3..].chars().all(|one| times.contains(one));
    let theirs = |(theirs, ours): (Vec<&str>, Vec<&str>)| ours == ["nothing"] && is_same(&theirs.join(" "));
    !what.contains("nothing") || older && what.contains("/: rsync ") || both(what).is_some_and(theirs)
}

/// Whether the directory `b` of the target stays in the place of a file.
fn is_protected_in_the_way(what: &str) -> bool {
    let stays = what.contains("/b: rsync file") && what.contains(", speil dir ");
    stays
        || what.contains("/b/") && what.contains(": rsync nothing, speil ")
        || what.starts_with("rsync 0 speil 23 ") && what.contains("(ENOTEMPTY)")
}

/// Whether we alone tell that something is made that is no directory.
fn cannot_be_made(what: &str) -> bool {
    [">f", "cL", "cS"].iter().any(|kind| what.ends_with(&format!(": rsync nothing, speil {kind}+++++++++")))
}

/// Whether a figure is one of what is sent.
fn is_of_sending(what: &str) -> bool {
    ["Number of regular", "Total transferred", "Number of created"]
        .iter()
        .any(|front| what.starts_with(front))
}

/// Whether a figure is one of the list of files.
fn is_of_list(what: &str) -> bool {
    what.starts_with("Number of files") || what.starts_with("Total file size")
}

/// Whether we tell that the owner or the group of a file changes, and rsync tells its mode, or nothing.
fn hides_owner(what: &str) -> bool {
    let Some((theirs, ours)) = both(what) else { return false };
    let (theirs, ours) = (theirs.join(" "), ours.join(" "));
    let told = |one: &str, letters: &str| {
        one.len() == 11 && one.starts_with(".f") && one[2..].chars().all(|one| letters.contains(one))
    };
    told(&ours, ".og") && (theirs == "nothing" || told(&theirs, ".p "))
}

/// Whether a name is told of as sent or linked by one of both, and by each once.
fn is_of_names(what: &str) -> bool {
    let once = |told: Vec<&str>| told.iter().filter(|word| word.starts_with("xf")).count() <= 1;
    what.contains(" xf") && both(what).is_some_and(|(theirs, ours)| once(theirs) && once(ours))
}

/// Whether we tell of the owner or group, too.
fn tells_owner_too(what: &str) -> bool {
    let Some((theirs, ours)) = both(what) else { return false };
    let without = |told: &str| -> String {
        told.char_indices().map(|(at, one)| if matches!(at, 6 | 7) { '.' } else { one }).collect()
    };
    theirs.join(" ") == without(&ours.join(" ")) && ours[0].starts_with(".f...p")
}

/// Whether one of both has removed a path.
fn is_choice(what: &str) -> bool {
    what.contains(": rsync nothing, speil ") || what.ends_with(", speil nothing")
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

/// Returns what both have, word by word.
fn both(what: &str) -> Option<(Vec<&str>, Vec<&str>)> {
    let (theirs, ours) = what.strip_suffix(SOURCES).unwrap_or(what).split_once(", speil ")?;
    let (_, theirs) = theirs.rsplit_once(": rsync ")?;
    Some((theirs.split(' ').collect(), ours.split(' ').collect()))
}

/// Whether two entries are of a kind and alike but for one of their words: 3 is a file's mode, 5 its time.
fn only_differs(what: &str, kind: &str, at: usize) -> bool {
    let Some((mut theirs, mut ours)) = both(what) else { return false };
    if theirs.len() <= at || ours.len() <= at || theirs[0] != kind {
        return false;
    }
    (theirs[at], ours[at]) = ("", "");
    theirs == ours
}

/// Whether two entries are alike but for their times.
fn only_time_differs(what: &str) -> bool {
    [("file", 5), ("dir", 3), ("link", 4), ("fifo", 3)].iter().any(|(kind, at)| only_differs(what, kind, *at))
}

/// Whether two entries are alike but for the names that share one inode.
fn only_differs_in_names(what: &str) -> bool {
    let Some((mut theirs, mut ours)) = both(what) else { return false };
    theirs.retain(|word| !word.starts_with('='));
    ours.retain(|word| !word.starts_with('='));
    theirs == ours
}

/// Whether we tell of one property more, by its place in a line, and else the same.
fn tells_too(what: &str, place: usize) -> bool {
    let Some((theirs, ours)) = both(what) else { return false };
    let without = |told: &str| {
        told.chars().enumerate().map(|(at, one)| if at == place { '.' } else { one }).collect::<String>()
    };
    theirs.join(" ") == without(&ours.join(" "))
}

/// Whether two entries are alike but for bits that are missing in the mode of ours.
fn lacks_bits(what: &str, bits: u32) -> bool {
    let Some((theirs, ours)) = both(what) else { return false };
    let at = if theirs[0] == "file" { 3 } else { 1 };
    let mode = |words: &[&str]| words.get(at).and_then(|word| u32::from_str_radix(word, 8).ok());
    let (Some(one), Some(two)) = (mode(&theirs), mode(&ours)) else { return false };
    one & !bits == two && only_differs(what, theirs[0], at)
}
