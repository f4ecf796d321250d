//! The filter, held against the rules of rsync(1) and against what rsync itself lists and deletes.

mod below;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, Output, Stdio};

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

fn filter(rules: &[&str]) -> Filter {
    Filter::new(rules).unwrap()
}

fn refused(rule: &str) -> FilterError {
    Filter::new(&[rule]).unwrap_err()
}

/// Asserts which of `paths` (a directory ends with a slash) `rules` exclude.
fn check(rules: &[&str], excluded: &[&str], included: &[&str]) {
    let filter = filter(rules);
    for (paths, expected) in [(excluded, true), (included, false)] {
        for text in paths {
            let dir = text.ends_with('/');
            let at = path(text.trim_end_matches('/'));
            assert_eq!(filter.excludes(&at, dir), expected, "{rules:?} {text}");
        }
    }
}

#[test]
fn a_name_matches_at_every_depth_and_hides_what_is_below() {
    check(&["- foo"], &["foo", "a/foo", "foo/", "foo/x", "a/foo/b/c"], &["foobar", "xfoo", "foo.bak"]);
}

#[test]
fn a_leading_slash_anchors_at_the_root() {
    check(&["- /foo"], &["foo", "foo/x"], &["a/foo"]);
    check(&["- /a/*.o"], &["a/x.o"], &["x.o", "b/a/x.o", "a/b/x.o"]);
}

#[test]
fn an_inner_slash_matches_the_last_components() {
    check(&["- foo/bar"], &["foo/bar", "x/foo/bar", "foo/bar/y"], &["foo", "bar", "xfoo/bar", "foo/barx"]);
    check(&["- foo/*/bar"], &["foo/x/bar", "y/foo/x/bar"], &["foo/bar", "foo/x/y/bar"]);
}

#[test]
fn a_trailing_slash_matches_directories_only() {
    check(&["- foo/"], &["foo/", "a/foo/", "foo/x"], &["foo", "a/foo"]);
}

#[test]
fn two_stars_cross_slashes() {
    check(&["- /foo/**/bar"], &["foo/a/bar", "foo/a/b/bar"], &["foo/bar"]);
    check(&["- foo/**"], &["foo/a", "x/foo/a/b"], &["foo/", "xfoo/a"]);
    check(&["- **/foo"], &["foo", "a/foo"], &["afoo"]);
}

#[test]
fn three_stars_match_the_directory_and_what_is_below() {
    check(&["- foo/***"], &["foo/", "foo/a", "x/foo/"], &["foo", "xfoo/"]);
    check(&["+ /a/", "+ /a/keep/***", "- *"], &["b", "a/x"], &["a/", "a/keep/", "a/keep/x/y"]);
}

#[test]
fn the_first_rule_that_matches_decides() {
    check(&["+ *.c", "- *"], &["x.o", "d/x.c"], &["x.c"]);
    check(&["+ */", "+ *.c", "- *"], &["x.o", "d/x.o"], &["d/x.c", "d/"]);
    check(&["- a", "!", "- b"], &["b"], &["a"]);
}

#[test]
fn a_backslash_escapes_only_beside_a_wildcard() {
    check(&["- foo\\bar"], &["foo\\bar"], &["foobar"]);
    check(&["- foo\\\\b*"], &["foo\\bar"], &["foo\\\\bar", "foobar"]);
    check(&["- \\*x"], &["*x"], &["ax", "\\*x"]);
}

#[test]
fn modifiers_do_as_documented() {
    check(&["-! */"], &["x"], &["x/"]);
    check(&["-s x", "+r y"], &["x"], &["y"]);
    check(&["P x", "- x"], &["x"], &[]);
    check(&["hide,! keep"], &["x", "x/keep"], &["keep"]);
    check(&["-x user.*"], &[], &["user.a"]);
    check(&["exclude_x", "exclude,_y", "hide z"], &["x", "y", "z"], &["_y"]);
    let xattrs = filter(&["- *", "+x user.keep", "Hx user.*"]);
    assert_eq!(xattrs.xattr(b"user.keep", Side::Sender), Some(Verdict::Include));
    assert_eq!(xattrs.xattr(b"user.a", Side::Sender), Some(Verdict::Exclude));
    assert_eq!(xattrs.xattr(b"user.a", Side::Receiver), None);
    assert_eq!(xattrs.xattr(b"trusted.a", Side::Sender), None);
}

#[test]
fn the_root_is_never_excluded() {
    let filter = filter(&["- *", "- **", "-! x", "P *"]);
    let root = RelPath::root();
    assert!(!filter.excludes(&root, true) && !filter.excludes_entry(&root, true));
    assert!(!filter.protects_entry(&root, true) && !filter.protects_entry_of_removed(&root, true));
    assert_eq!(filter.which(&root, true), None);
    assert_eq!(filter.which_entry(&root, true, Side::Sender), None);
}

#[test]
fn plain_excludes_protect_unless_excluded_entries_are_deleted() {
    let rules = ["- a", "P b", "H c", "-sr d", "-p e"];
    let plain = filter(&rules);
    let deleting = filter(&rules).with_delete_excluded();
    for (name, hidden, kept, kept_deleting) in [
        ("a", true, true, false),
        ("b", false, true, true),
        ("c", true, false, false),
        ("d", true, true, true),
        ("e", true, true, false),
    ] {
        assert_eq!(plain.excludes_entry(&path(name), false), hidden, "{name}");
        assert_eq!(deleting.excludes_entry(&path(name), false), hidden, "{name}");
        assert_eq!(plain.protects_entry(&path(name), false), kept, "{name}");
        assert_eq!(deleting.protects_entry(&path(name), false), kept_deleting, "{name}");
    }
    assert!(!plain.protects_entry_of_removed(&path("e"), false));
    assert!(plain.protects_entry_of_removed(&path("a"), false));
}

#[test]
fn the_entry_alone_is_judged_without_its_ancestors() {
    let filter = filter(&["- d/"]);
    assert!(filter.excludes(&path("d/x"), false));
    assert!(!filter.excludes_entry(&path("d/x"), false));
}

#[test]
fn which_names_the_rule_that_hides_the_topmost_directory() {
    let filter = filter(&["exclude d/", "include,s *.c", "hide x.*"]);
    assert_eq!(filter.which(&path("d/e/x.c"), false), Some((Verdict::Exclude, b"- d/".as_slice())));
    assert_eq!(filter.which(&path("e/x.c"), false), Some((Verdict::Include, b"S *.c".as_slice())));
    assert_eq!(filter.which(&path("e/x.h"), false), Some((Verdict::Exclude, b"H x.*".as_slice())));
    assert_eq!(filter.which(&path("y"), false), None);
    assert_eq!(filter.which_entry(&path("x.c"), false, Side::Receiver), None);
}

#[test]
fn rules_survive_the_round_trip() {
    let rules = ["- *.tmp", "exclude,!ps _x", "+sr y", "H,x a b", "protect  z", "R w/", "S ***", "-/ n"];
    let first = filter(&rules);
    assert_eq!(Filter::new(&first.rules()).unwrap(), first);
    let deleting = first.clone().with_delete_excluded();
    assert_ne!(deleting, first);
    assert_eq!(Filter::new(&deleting.rules()).unwrap(), deleting);
    assert_eq!(filter(&[]), Filter::default());
    let texts: Vec<_> = first.rules().iter().map(|rule| String::from_utf8_lossy(rule).into_owned()).collect();
    assert_eq!(texts, ["- *.tmp", "H!p _x", "+sr y", "Hx a b", "P  z", "R w/", "S ***", "- n"]);
}

#[test]
fn names_need_not_be_utf8() {
    let filter = Filter::new(&[b"- \xff*".as_slice(), b"- [\x80-\x8f]"]).unwrap();
    for (name, expected) in [(b"\xffa".as_slice(), true), (b"\x85", true), (b"\xfe", false)] {
        assert_eq!(filter.excludes(&RelPath::new(name).unwrap(), false), expected);
    }
}

#[test]
fn a_pattern_file_is_read_as_rsync_reads_it() {
    let mut excludes = Filter::default();
    excludes.exclude_lines(b"a\r\n#b\n;c\n\n+ d\n- e\n f\n # g\n-_h").unwrap();
    let texts = ["- a", "+ d", "- e", "-  f", "-  # g", "- -_h"].map(|text| text.as_bytes().to_vec());
    assert_eq!(excludes.rules(), texts);
    excludes.include_lines(b"x\n!\ny\n- z").unwrap();
    assert_eq!(excludes.rules(), [b"+ y".to_vec(), b"- z".to_vec()]);
    assert_eq!(excludes.exclude_lines(b"- "), Err(FilterError::NoPattern(b"- ".to_vec())));
}

#[test]
fn absolute_patterns_are_anchored_at_the_source_or_refused() {
    let at = |rule: &str| Filter::new_at(&[rule], b"/srv/www").map(|filter| filter.rules());
    assert_eq!(at("-/ /srv/www/a/*.o"), Ok(vec![b"- /a/*.o".to_vec()]));
    assert_eq!(at("P,/ /srv/ftp/a"), Ok(vec![]));
    assert_eq!(at("-/!p /srv/ftp/a"), Ok(vec![b"-p **".to_vec()]));
    assert!(matches!(at("-/ www/a"), Err(FilterError::Absolute(_))));
    assert!(matches!(refused("-/ /srv/www/a"), FilterError::Absolute(_)));
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (rule, part) in [
        (". /etc/rules", "merge rules are taken by speil sync alone"),
        ("merge /etc/rules", "merge rules are taken by speil sync alone"),
        (":n- .rules", "dir-merge rules are taken by speil sync alone"),
        ("dir-merge .rules", "--exclude-from"),
        (":C", "dir-merge"),
        ("-C", "write each pattern"),
        ("-/ a/b", "- /PATTERN"),
    ] {
        let text = refused(rule).to_string();
        assert!(text.contains(part), "{rule}: {text}");
        assert!(text.contains(&quote(rule.as_bytes())), "{rule}: {text}");
        assert_eq!(refused(rule).consequence(), Consequence::Die);
    }
}

#[test]
fn malformed_rules_are_refused_as_rsync_refuses_them() {
    let sample = Sample::new();
    let rules = [
        "- ",
        "-",
        "-foo",
        "hide,s x",
        "Hs x",
        "H,r x",
        "excludefoo",
        "exclude",
        "-e x",
        "-n x",
        "-w x",
        "! x",
        "!,s",
        "clear ",
        "Clear",
        "foo",
        "h x",
        " - x",
        "-- x",
        "-s",
        "-s,r x",
        "clearx",
        "-,",
        "P_",
        "- x",
        "-_x",
        "-, x",
        "-,_x",
        "exclude x",
        "hide,! x",
        "-ss x",
        "-!! x",
        "-  ",
        "clear",
        "clear,",
        "!",
        "!,",
        "",
        "R_x",
        "protect,p x",
        "+x x",
        "show x",
        "risk_x",
        "-  x",
        "-,  x",
    ];
    for rule in rules {
        let output = sample.rsync(&[rule.as_bytes().to_vec()], &[]);
        assert_eq!(Filter::new(&[rule]).is_ok(), output.status.success(), "{rule:?}");
    }
}

#[test]
fn oversized_input_is_refused() {
    let rule = |length| [b"- ".as_slice(), &vec![b'x'; length]].concat();
    assert!(Filter::new(&[rule(4096)]).is_ok());
    assert!(matches!(Filter::new(&[rule(4097)]), Err(FilterError::Long(_))));
    assert!(matches!(refused("- a\0b"), FilterError::Nul(_)));
    let many = vec!["- x"; RULES_MAX];
    let mut full = Filter::new(&many).unwrap();
    assert_eq!(full.push_exclude(b"y"), Err(FilterError::TooMany));
    assert_eq!(full.push_rule(b"!"), Ok(()));
    assert!(full.is_empty());
}

#[test]
fn many_stars_do_not_blow_up() {
    let deep = vec![vec![b'a'; 255]; 15].join(&b'/');
    let rules = ["- *a*a*a*a*a*a*a*a*a*a*a*a*a*b", "- **a**a**a**a**a**a**a**a**b", "- **/*a*/**/*a*/**/*b"];
    assert!(!filter(&rules).excludes(&RelPath::new(deep).unwrap(), false));
}

#[test]
fn verdicts_are_what_rsync_lists() {
    let sample = Sample::new();
    let source = sample.source_path();
    let mut telling = 0;
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let rules: Vec<_> = (0..2 + dice.roll(8)).map(|_| random_rule(&mut dice, &source)).collect();
        let output = sample.rsync(&rules, &[]);
        let shown: Vec<_> = rules.iter().map(|rule| quote(rule)).collect();
        assert!(output.status.success(), "seed {seed} {shown:?}: {output:?}");
        let listed: BTreeSet<_> = lines(&output.stdout).map(<[u8]>::to_vec).collect();
        let filter = Filter::new_at(&rules, &source).unwrap();
        let ours: BTreeSet<_> =
            sample.entries.iter().filter(|entry| !excludes(&filter, entry)).cloned().collect();
        assert_eq!(show(&ours), show(&listed), "seed {seed} {shown:?}");
        let walked = walk(&sample.entries, &|entry| !excludes_entry(&filter, entry));
        assert_eq!(show(&walked), show(&listed), "seed {seed} {shown:?}");
        assert_eq!(Filter::new(&filter.rules()).unwrap(), filter, "seed {seed} {shown:?}");
        telling += usize::from(!listed.is_empty() && listed.len() < sample.entries.len());
    }
    assert!(telling > 50, "only {telling} lists hide some entries and not all");
}

#[test]
fn protection_is_what_rsync_deletes() {
    let sample = Sample::new();
    let mut telling = 0;
    for seed in 1000..1060 {
        let mut dice = Dice::new(seed);
        let rules: Vec<_> = (0..2 + dice.roll(6)).map(|_| random_sided_rule(&mut dice)).collect();
        let delete_excluded = dice.roll(3) == 0;
        let option = if delete_excluded { "--delete-excluded" } else { "--delete" };
        let output = sample.rsync(&rules, &[option]);
        let shown: Vec<_> = rules.iter().map(|rule| quote(rule)).collect();
        assert!(output.status.success(), "seed {seed} {shown:?}: {output:?}");
        let deleted = deleted(&output.stdout);
        let filter = Filter::new(&rules).unwrap();
        let filter = if delete_excluded { filter.with_delete_excluded() } else { filter };
        let sent = walk(&sample.entries, &|entry| !excludes_entry(&filter, entry));
        let ours = deletions(&filter, &sent, &sample.target_entries);
        assert_eq!(show(&ours), show(&deleted), "seed {seed} {option} {shown:?}");
        // Eight entries of the target have no counterpart.
        telling += usize::from(!matches!(deleted.len(), 0 | 8));
    }
    assert!(telling > 12, "only {telling} lists protect some entries and not all");
}

/// A source, a target that holds more, and rsync between them. Entries end with a slash if directories.
struct Sample {
    dir: tempfile::TempDir,
    entries: Vec<Vec<u8>>,
    target_entries: Vec<Vec<u8>>,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tops: [&[u8]; 14] = [
            b"a/",
            b"b/",
            b"foo/",
            b"a/b/",
            b"a/foo/",
            b"foo/a/",
            b"foo/a/b/",
            b"a/b/a/",
            b".d/",
            b"b/foo/",
            b"a/a/",
            b"A1/",
            b"a/a/a/",
            b"\xffd/",
        ];
        let names: [&[u8]; 16] = [
            b"c",
            b"ab",
            b"foobar",
            b"x.o",
            b".h",
            b"[c]",
            b"a*c",
            b"b\\c",
            b"\xc3\xa5",
            b"\xff\xfe",
            b"A-1",
            b"s p",
            b"_c",
            b"-c",
            b"bar",
            b"c]",
        ];
        let mut entries: Vec<Vec<u8>> = tops.iter().map(|top| top.to_vec()).collect();
        entries.extend(names.iter().map(|name| name.to_vec()));
        for (index, top) in tops.iter().enumerate() {
            for name in names.iter().cycle().skip(index * 3).take(3) {
                entries.push([top, *name].concat());
            }
        }
        let gone: [&[u8]; 8] = [
            b"foo/gone/",
            b"old/",
            b"old/a/",
            b"old/a/c",
            b"old/x.o",
            b"old/a/b/",
            b"old/a/b/bar",
            b"gone.o",
        ];
        let kept = entries.iter().filter(|entry| !entry.starts_with(b"A1/")).cloned();
        let target_entries = kept.chain(gone.iter().map(|entry| entry.to_vec())).collect();
        let sample = Self { dir, entries, target_entries };
        sample.make("source", &sample.entries);
        sample.make("nothing", &[]);
        sample.make("target", &sample.target_entries);
        sample
    }

    fn make(&self, root: &str, entries: &[Vec<u8>]) {
        fs::create_dir(self.dir.path().join(root)).unwrap();
        for entry in entries {
            let at = self.dir.path().join(root).join(OsStr::from_bytes(entry));
            if entry.ends_with(b"/") {
                fs::create_dir_all(at).unwrap();
            } else {
                fs::create_dir_all(at.parent().unwrap()).unwrap();
                fs::write(at, b"").unwrap();
            }
        }
    }

    fn source_path(&self) -> Vec<u8> {
        fs::canonicalize(self.dir.path().join("source")).unwrap().into_os_string().into_vec()
    }

    fn rsync(&self, rules: &[Vec<u8>], options: &[&str]) -> Output {
        let mut command = Command::new("rsync");
        command.args(["-rn8", "--out-format=%n"]).args(options).stdin(Stdio::null()).env("LC_ALL", "C");
        for rule in rules {
            command.arg("--filter").arg(OsStr::from_bytes(rule));
        }
        let target = if options.is_empty() { "nothing/" } else { "target/" };
        command.args(["source/", target]).current_dir(self.dir.path());
        command.output().expect("these tests compare with rsync: install it")
    }
}

/// Splits the slash off a directory.
fn parts(entry: &[u8]) -> (RelPath, bool) {
    let bare = entry.strip_suffix(b"/").unwrap_or(entry);
    (RelPath::new(bare).unwrap(), bare.len() < entry.len())
}

fn excludes(filter: &Filter, entry: &[u8]) -> bool {
    let (at, dir) = parts(entry);
    filter.excludes(&at, dir)
}

fn excludes_entry(filter: &Filter, entry: &[u8]) -> bool {
    let (at, dir) = parts(entry);
    filter.excludes_entry(&at, dir)
}

/// Returns what a recursion meets that enters only what `wanted` takes.
fn walk(entries: &[Vec<u8>], wanted: &dyn Fn(&[u8]) -> bool) -> BTreeSet<Vec<u8>> {
    let taken = |entry: &&Vec<u8>| {
        let prefixes = (1..=entry.len()).filter(|&end| end == entry.len() || entry[end - 1] == b'/');
        prefixes.map(|end| &entry[..end]).all(wanted)
    };
    entries.iter().filter(taken).cloned().collect()
}

/// Returns what a receiver deletes of `target` that was sent `sent`.
fn deletions(filter: &Filter, sent: &BTreeSet<Vec<u8>>, target: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let parent = |entry: &[u8]| {
        let (at, _) = parts(entry);
        at.parent().filter(|above| !above.is_root()).map(|above| [above.as_bytes(), b"/"].concat())
    };
    let mut deleted = BTreeSet::new();
    let tops = target.iter().filter(|entry| {
        let (at, dir) = parts(entry);
        let parent_stays = parent(entry).is_none_or(|above| sent.contains(&above));
        parent_stays && !sent.contains(*entry) && !filter.protects_entry(&at, dir)
    });
    for top in tops {
        remove(filter, top, target, &mut deleted);
    }
    deleted
}

/// Returns what rsync says that it deletes.
fn deleted(output: &[u8]) -> BTreeSet<Vec<u8>> {
    let said = |prefix: &'static [u8]| lines(output).filter_map(move |line| line.strip_prefix(prefix));
    let mut deleted: BTreeSet<_> = said(b"deleting ").map(<[u8]>::to_vec).collect();
    // A dry run says of a directory that it stays, and then that it goes.
    for stays in said(b"cannot delete non-empty directory: ") {
        deleted.remove(&[stays, b"/"].concat());
    }
    deleted
}

/// Removes `entry`, unless something below it is protected; returns whether it went.
fn remove(filter: &Filter, entry: &[u8], target: &[Vec<u8>], deleted: &mut BTreeSet<Vec<u8>>) -> bool {
    let child = |other: &&Vec<u8>| {
        let below = other.strip_prefix(entry).unwrap_or_default();
        entry.ends_with(b"/") && !below.is_empty() && !below[..below.len() - 1].contains(&b'/')
    };
    let mut empty = true;
    for other in target.iter().filter(child) {
        let (at, dir) = parts(other);
        empty &= !filter.protects_entry_of_removed(&at, dir) && remove(filter, other, target, deleted);
    }
    if empty {
        deleted.insert(entry.to_vec());
    }
    empty
}

fn show(entries: &BTreeSet<Vec<u8>>) -> Vec<String> {
    entries.iter().map(|entry| quote(entry)).collect()
}

/// A small seeded generator, so that a failure names the seed that repeats it.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % sides
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())]
    }
}

fn random_pattern(dice: &mut Dice) -> Vec<u8> {
    const NAMES: [&[u8]; 18] = [
        b"a", b"a", b"b", b"b", b"foo", b"foo", b"ab", b"bar", b"x.o", b".h", b"[c]", b"b\\c", b"\xc3",
        b"old", b"A1", b"s p", b"_c", b"a*c",
    ];
    const WILD: [&[u8]; 12] =
        [b"*", b"*", b"*", b"**", b"**", b"***", b"?", b"?", b"[a-f]", b"[!a]", b"[^.b]", b"[[:alpha:]]"];
    const ODD: [&[u8]; 12] = [
        b"[[:upper:]-]",
        b"[]c]",
        b"[[:punct:][:digit:]]",
        b"\\*",
        b"\\[",
        b"\\\\",
        b"[",
        b"[\\]]",
        b"[--9]",
        b"[a-c-e]",
        b"[[:alpha]",
        b"[[:none:]]",
    ];
    let mut pattern = dice.pick(&[b"".as_slice(), b"", b"", b"/", b"**/", b"*/"]).to_vec();
    for component in 0..1 + dice.roll(6) / 3 + dice.roll(6) / 5 {
        if component > 0 {
            pattern.push(b'/');
        }
        let pieces = 1 + dice.roll(3) / 2;
        for _ in 0..pieces {
            pattern.extend_from_slice(match dice.roll(12) {
                0 => dice.pick(&ODD),
                1..6 => dice.pick(&WILD),
                _ => dice.pick(&NAMES),
            });
        }
    }
    let ends = [b"".as_slice(), b"", b"", b"", b"", b"", b"/", b"/", b"/**", b"/***", b"***", b"//"];
    pattern.extend_from_slice(dice.pick(&ends));
    pattern
}

fn random_rule(dice: &mut Dice, source: &[u8]) -> Vec<u8> {
    let name = dice.pick(&["-", "-", "-", "+", "+", "H", "S", "P", "exclude", "hide,", "include,"]);
    let modifier = dice.pick(&["", "", "", "", "", "", "", "", "", "", "", "p", "p", "/", "/", "!", "x"]);
    let comma = if name.len() > 2 && !name.ends_with(',') && !modifier.is_empty() { "," } else { "" };
    let mut rule = [name, comma, modifier, dice.pick(&[" ", "_"])].concat().into_bytes();
    let pattern = random_pattern(dice);
    if modifier == "/" {
        rule.extend_from_slice(source);
        rule.push(b'/');
        rule.extend_from_slice(pattern.strip_prefix(b"/").unwrap_or(&pattern));
    } else {
        rule.extend_from_slice(&pattern);
    }
    rule
}

fn random_sided_rule(dice: &mut Dice) -> Vec<u8> {
    let name =
        dice.pick(&["-", "-", "-p", "-p", "+", "+s", "+r", "-s", "-r", "-sr", "H", "S", "P", "Pp", "R"]);
    let negate = dice.pick(&["", "", "", "", "", "", "!"]);
    [name.as_bytes(), negate.as_bytes(), b" ", &random_pattern(dice)].concat()
}
