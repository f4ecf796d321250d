//! Which differences `contrib/rsync-differences.md` allows.

use super::look::SOURCES;
use super::words::{Case, Place};

/// The table, whose rows are named by their beginnings.
const TABLE: &str = include_str!("../../../contrib/rsync-differences.md");

/// Kinds of differences, the row that allows them, and when.
type Waiver = (&'static str, &'static str, fn(&Case, &str) -> bool);

const WAIVERS: &[Waiver] = &[
    ("line", "lines of `-i` with `--link-dest` and its like", |case, what| {
        is_beside(case) && is_told_of_older(case, what)
    }),
    ("line|stats", "a dry run with `-H`", |case, _| case.has("-H") && case.has("-n")),
    ("line", "`-H`, and a file whose names on the target are not the source's", |case, what| {
        case.has("-H") && is_of_names(what)
    }),
    ("stats", "`-H`, and a file whose names on the target are not the source's", |case, what| {
        case.has("-H") && is_of_sending(what)
    }),
    ("tree", "`--backup`, and a symlink or FIFO that gives way", |case, what| {
        case.keeps_old()
            && (what.contains(": rsync nothing, speil link ")
                || what.contains(": rsync nothing, speil fifo "))
    }),
    ("tree", "`-H`, and a file whose names on the target are not the source's", |case, what| {
        case.has("-H") && is_believed(what)
    }),
    ("tree|line", "`-m`, and a directory that holds only what cannot be read", |case, what| {
        case.has("-m") && case.follows() && what.contains("rsync nothing, speil ")
    }),
    ("tree", "`-H`, and a file whose names on the target are not the source's", |case, what| {
        case.has("-H") && case.keeps_old() && what.contains(": rsync nothing, speil file")
    }),
    ("tree", "`-H` with `--link-dest` and its like", |case, what| {
        case.has("-H") && is_beside(case) && only_differs_in(what, "=")
    }),
    ("stats", "`--stats` of several sources", |case, what| {
        (case.has("-R") || case.has("--files-from=@/list")) && is_of_list(what)
    }),
    ("code|tree", "a directory that a rule protects, in the place of a file", |case, what| {
        case.deletes() && case.has("--exclude=b/") && is_protected_in_the_way(what)
    }),
    ("tree", "`-H`, and a file whose names on the target are not the source's", |case, what| {
        case.has("-H") && !case.has("-a") && what.ends_with(SOURCES) && only_differs(what, "file", 4)
    }),
    ("tree", "`-C` with `--delete-excluded` in a pull", |case, what| {
        case.place == Place::Pull
            && case.has("-C")
            && case.has("--delete-excluded")
            && what.ends_with(", speil nothing")
    }),
    ("line", "times within `--modify-window`", |case, what| {
        case.has("--modify-window=1") && tells_too(what, 4)
    }),
    ("tree", "times within `--modify-window`", |case, what| {
        case.has("--modify-window=1") && only_time_differs(what)
    }),
    ("line", "a dry run with `--delete`, and a directory that keeps something", |case, what| {
        case.has("-n") && case.protects() && what.ends_with("/: rsync *deleting  , speil nothing")
    }),
    ("stats", "a dry run with `--delete`, and a directory that keeps something", |case, what| {
        case.has("-n") && case.protects() && what.starts_with("Number of deleted files")
    }),
    ("tree", "`--remove-source-files`, and a file of another content", |case, what| {
        case.has("--remove-source-files") && what.starts_with("src") && only_differs(what, "dir", 3)
    }),
    ("tree", "`--remove-source-files` with `--link-dest`", |case, what| {
        case.has("--remove-source-files")
            && is_beside(case)
            && what.starts_with("src/")
            && (what.contains(": rsync link ") || what.contains(": rsync fifo "))
            && what.ends_with(", speil nothing")
    }),
    ("line", "a target that `--mkpath` makes", |case, what| {
        case.has("--mkpath")
            && (what.starts_with("./: rsync .d") || what == "./: rsync nothing, speil cd+++++++++")
    }),
    ("line", "`-A` with `--chmod`", |case, what| case.has("-A") && tells_too(what, 9)),
    ("stats", "lines and figures of what cannot be made", |case, what| {
        case.has("--exclude=b/") && is_of_sending(what)
    }),
    ("line", "lines and figures of what cannot be made", |_, what| cannot_be_made(what)),
    ("tree", "`--ignore-existing`, where the target has a file in the place of a directory", |case, what| {
        case.has("--ignore-existing") && what.contains(": rsync file 15 297d87b7")
    }),
    ("tree", "`--ignore-existing`, where the target has a file in the place of a directory", |case, what| {
        case.has("--ignore-existing") && only_time_differs(what)
    }),
    ("line", "`--ignore-existing`, where the target has a file in the place of a directory", |case, what| {
        case.has("--ignore-existing") && what.ends_with("/: rsync cd+++++++++, speil nothing")
    }),
    ("tree", "a directory below `--backup-dir`, without `-p`", |case, what| {
        what.starts_with("kept/") && !case.has("-p") && !case.has("-a") && lacks_bits(what, 0o2000)
    }),
    ("line", "a set-uid or set-gid file whose owner or group changes", |case, what| {
        case.changes_owners() && tells_owner_too(what)
    }),
    ("tree", "a target that `--mkpath` makes", |case, what| {
        case.has("--mkpath") && what.starts_with("new: ") && only_differs(what, "dir", 1)
    }),
    ("tree", "a set-uid or set-gid file whose owner or group changes", |case, what| {
        case.changes_owners() && lacks_bits(what, 0o6000)
    }),
    ("line", "a set-uid or set-gid file whose owner or group changes", |case, what| {
        case.changes_owners() && hides_owner(what)
    }),
    ("tree", "`--remove-source-files`, and a file of another content", |case, what| {
        case.has("--remove-source-files")
            && what.contains(": rsync nothing, speil file")
            && (what.starts_with("src/") || what.starts_with("more/"))
    }),
    ("tree", "`--backup-dir=DIR` where nothing is replaced", |_, what| {
        what.starts_with("kept") && what.contains("rsync nothing, speil dir")
    }),
    ("line", "directories without a slash that are left out", |case, what| {
        is_one_directory(case) && vain(case) && what == "./: rsync nothing, speil cd+++++++++"
    }),
    ("stats", "a target that `--mkpath` makes", |case, what| {
        case.has("--mkpath") && what.starts_with("Number of created files")
    }),
    ("tree|line", "`-m` with `--files-from`", |case, what| {
        case.has("-m")
            && case.has("--files-from=@/list")
            && (what.contains(": rsync dir ") || what.contains(": rsync cd+"))
            && what.ends_with(", speil nothing")
    }),
    ("stats", "`-m`, and a directory that holds only what cannot be read", |case, what| {
        case.has("-m") && case.follows() && what.starts_with("Number of created files")
    }),
    ("tree", "`--max-delete=N`: which N are removed", |case, what| {
        case.has("--max-delete=2") && only_time_differs(what)
    }),
    ("tree", "`--remove-source-files` with `-u`", |case, what| {
        case.has("--remove-source-files")
            && case.has("-u")
            && what.contains(": rsync file")
            && what.ends_with(", speil nothing")
    }),
    ("tree", "`-A` with `--chmod`", |case, what| {
        case.has("-A")
            && case.words.iter().any(|word| word.starts_with("--chmod"))
            && only_differs_in(what, "acl=")
    }),
    ("tree", "`-X` with `-L`", |case, what| {
        case.has("-X") && case.follows() && only_differs_in(what, "note=")
    }),
    (
        "stats",
        "`--ignore-existing`, where the target has a file in the place of a directory",
        |case, what| case.has("--ignore-existing") && what.starts_with("Number of created files"),
    ),
    ("code", "`--max-delete=N`: which N are removed", |case, what| {
        case.has("--max-delete=2") && what.starts_with("rsync 23 speil 25 ")
    }),
    ("tree", "`-R` with `./dir/` and a filter", |case, what| {
        case.sources == ["./src/"]
            && case.has("--exclude=*")
            && what.starts_with("dst: rsync dir ")
            && case.changes_owners()
    }),
    ("tree", "`--remove-source-files`, and a file of another content", |case, what| {
        case.has("--remove-source-files") && what.starts_with("src/") && only_differs_in(what, "=")
    }),
    ("line", "`--delete-before`, and a directory in which something is removed", |case, what| {
        case.deletes()
            && (what.ends_with("/: rsync .d..t......, speil .d         ")
                || what.ends_with("/: rsync .d..t......, speil nothing"))
    }),
    // What is below such a file rsync 3.5 may put into the directory of another.
    ("tree", "`--ignore-existing`, where the target has a file in the place of a directory", |case, what| {
        case.has("--ignore-existing") && case.place == Place::Pull && what.ends_with(", speil nothing")
    }),
    ("line", "a directory that a rule protects, in the place of a file", |case, what| {
        let is_there = what.starts_with("b: ")
            || what.starts_with("b/")
            || what.contains("/b: ")
            || what.contains("/b/");
        case.deletes() && case.has("--exclude=b/") && is_there && what.ends_with(", speil nothing")
    }),
    ("stats", "`-m` |", |case, what| case.has("-m") && what.starts_with("Number of files")),
    ("tree", "another kind of entry in the place of a file, without `-p`", |case, what| {
        !case.keeps_modes() && what.contains(": rsync fifo ") && only_differs(what, "fifo", 1)
    }),
    ("tree", "directories without a slash that are left out", |case, what| {
        vain(case) && case.target == "new/" && what == "new: rsync nothing, speil dir 755 0:0 now"
    }),
    ("tree", "directories without a slash that are left out", |case, what| {
        is_one_directory(case) && made_in_vain(case, what)
    }),
    ("tree", "modes without `-p`, with `--link-dest` and its like", |case, what| {
        is_beside(case) && only_differs(what, "file", 3)
    }),
    ("code", "`--ignore-existing`, where the target has a file in the place of a directory", |case, what| {
        case.has("--ignore-existing") && what.starts_with("rsync 23 speil ")
    }),
    ("stats", "directories without a slash that are left out", |case, _| {
        is_one_directory(case) && vain(case)
    }),
    ("stats", "`--stats` of several sources", |case, what| case.sources.len() > 1 && is_of_list(what)),
    ("tree|line", "`--max-delete=N`: which N are removed", |case, what| {
        case.has("--max-delete=2") && is_choice(what)
    }),
    ("stats", "`--max-delete=N`: which N are removed", |case, what| {
        what.starts_with("Number of deleted files") && case.has("--max-delete=2")
    }),
];

/// Returns the row that allows a difference; `None` if none does.
pub fn allowed(case: &Case, difference: &str) -> Option<&'static str> {
    let (kind, what) = difference.split_once(": ")?;
    let allows = |(kinds, _, when): &&Waiver| kinds.split('|').any(|one| one == kind) && when(case, what);
    let (_, row, _) = WAIVERS.iter().find(allows)?;
    assert!(TABLE.contains(&format!("| {row}")), "no row {row:?}");
    Some(row)
}

/// Whether older trees are looked at.
fn is_beside(case: &Case) -> bool {
    case.words.iter().any(|word| word.contains("-dest="))
}

fn is_one_directory(case: &Case) -> bool {
    matches!(&case.sources[..], [source] if !source.ends_with('/'))
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

/// Whether two entries are alike but for a word that begins so.
fn only_differs_in(what: &str, front: &str) -> bool {
    let Some((mut theirs, mut ours)) = both(what) else { return false };
    theirs.retain(|word| !word.starts_with(front));
    ours.retain(|word| !word.starts_with(front));
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
