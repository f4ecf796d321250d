//! What random trees have shown, each as a small case of its own: rsync, with the same words, is the judge.

use std::fs;
use std::os::unix::fs::symlink;

use crate::sources::{Scene, date, listed};

/// Makes the trees of a scene, and gives everything one time.
fn scene(files: &[(&str, &str)]) -> Scene {
    let scene = Scene::new();
    for (name, content) in files {
        scene.write(name, content);
    }
    scene
}

fn dated(scene: &Scene) {
    for name in ["s", "a", "b", "c"] {
        if scene.path(name).exists() {
            date(&scene.path(name), 1_100_000_000);
        }
    }
}

/// `before` of [`Scene::agree`] puts these into the target: `t/extra`, `t/a/extra`, `t/b/y/extra`, `t/x/extra`, `t/c/extra`.
const BEFORE: &str = "dir";

#[test]
fn names_of_one_file_are_told_once_and_no_directory_is_told_again() {
    let scene = scene(&[("s/one", "content"), ("s/deep/er/f", "x"), ("s/c/own", "y"), ("s/apart", "z")]);
    fs::hard_link(scene.path("s/one"), scene.path("s/deep/er/two")).unwrap();
    fs::hard_link(scene.path("s/one"), scene.path("s/c/three")).unwrap();
    // Of this one a name lies elsewhere.
    fs::hard_link(scene.path("s/apart"), scene.path("elsewhere")).unwrap();
    dated(&scene);
    for words in [
        &["-aHi", "s/", "T"][..],
        &["-rHi", "s/", "T"],
        &["-rHi", "-b", "s/", "T"],
        &["-rHi", "--delete", "s/", "T"],
        &["-aHi", "--exclude=one", "s/", "T"],
        &["-aHi", "s/", "b", "T"],
        &["-aHi", "--existing", "s/", "T"],
        &["-aHi", "-u", "s/", "T"],
    ] {
        scene.prepare(BEFORE);
        let into = |side: &str| -> Vec<String> {
            words
                .iter()
                .map(|word| if *word == "T" { format!("{side}/t") } else { (*word).to_owned() })
                .collect()
        };
        let (ours, theirs) = (into("ours"), into("theirs"));
        let theirs = scene.rsync(&theirs.iter().map(String::as_str).collect::<Vec<_>>());
        let ours = scene.speil(&ours.iter().map(String::as_str).collect::<Vec<_>>());
        // Which of the names is the first is nobody's promise.
        let all = |text: &str| {
            let lines = text.lines().filter(|line| line.as_bytes().get(11) == Some(&b' '));
            let plain = lines.map(|line| line[2..].split(" => ").next().unwrap().to_owned());
            let mut lines: Vec<String> =
                plain.filter(|line| !line.ends_with("/") || line.contains('+')).collect();
            lines.sort();
            lines
        };
        let told = format!("{words:?}\n{}{}\n{}{}", ours.stdout, ours.stderr, theirs.stdout, theirs.stderr);
        assert_eq!(all(&ours.stdout), all(&theirs.stdout), "{told}");
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{told}");
    }
}

#[test]
fn what_is_not_sent_by_its_size_or_by_a_rule_is_not_told_as_the_same() {
    let scene = scene(&[("s/extra", "the source lacks it"), ("s/a/extra", "other"), ("s/new", "new")]);
    dated(&scene);
    for words in [
        &["-aii", "--min-size=100", "s/", "T"][..],
        &["-aii", "-u", "s/", "T"],
        &["-aii", "--ignore-existing", "s/", "T"],
        &["-rii", "--size-only", "--max-size=5", "s/", "T"],
    ] {
        let _ = scene.agree(BEFORE, words);
    }
}

#[test]
fn a_file_that_is_named_itself_meets_a_directory_as_in_rsync() {
    let scene = scene(&[("s/a", "a file, and a directory with something on the target"), ("s/x", "as well")]);
    symlink("nowhere", scene.path("s/b")).unwrap();
    dated(&scene);
    for words in [
        &["-rti", "--delete", "s/b", "s/x", "T"][..],
        &["-ai", "s/a", "s/x", "T"],
        &["-ai", "--delete", "s/a", "s/x", "T"],
        &["-ai", "--force", "s/a", "T"],
    ] {
        let _ = scene.agree(BEFORE, words);
    }
}

#[test]
fn a_list_names_what_a_rule_leaves_out_of_a_directory_in_it() {
    let scene = scene(&[
        ("s/d/b/f", "x"),
        ("s/d/b/g", "x"),
        ("s/d/e", "x"),
        ("list", "d\nd/b/f\n"),
        ("dirs", "d/b\nd/e\n"),
        ("s/x/extra/f", "x"),
        ("deep", "x/extra/f\n"),
    ]);
    dated(&scene);
    for words in [
        &["-air", "--exclude=b/", "--files-from=list", "s/", "T"][..],
        &["-aim", "--files-from=dirs", "s/", "T"],
        &["-aim", "--files-from=list", "s/", "T"],
    ] {
        let _ = scene.agree("nothing", words);
    }
    // The target has a file in the place of a directory on the way, which is to stay.
    scene.prepare(BEFORE);
    let ran = scene.speil(&["-ai", "--ignore-existing", "--files-from=deep", "s/", "ours/t"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    assert!(!ran.stdout.contains("extra"), "{}", ran.stdout);
    assert!(scene.path("ours/t/x/extra").is_file());
}

#[test]
fn a_directory_with_what_is_not_kept_is_not_empty_and_a_rule_hides_a_symlink_to_nothing() {
    let scene = scene(&[("s/f", "x")]);
    fs::create_dir_all(scene.path("s/only/deep")).unwrap();
    fs::create_dir_all(scene.path("s/hollow/deep")).unwrap();
    symlink("nowhere", scene.path("s/only/deep/link")).unwrap();
    dated(&scene);
    for words in [
        &["-rtim", "s/", "T"][..],
        &["-rtim", "--delete", "s/", "T"],
        &["-rtiL", "--exclude=link/", "s/", "T"],
        &["-rtiL", "--exclude=link", "s/", "T"],
        &["-rtiL", "s/", "T"],
    ] {
        let _ = scene.agree(BEFORE, words);
    }
}

#[test]
fn a_symlink_to_nothing_in_one_source_keeps_no_directory_of_another_away() {
    let scene = scene(&[("s/d/f", "x"), ("s/d/e/g", "x"), ("c/d2", "x")]);
    symlink("nowhere", scene.path("c/d")).unwrap();
    dated(&scene);
    for words in [
        &["-aiL", "s/", "c/", "T"][..],
        &["-aiL", "c/", "s/", "T"],
        &["-ai", "--copy-unsafe-links", "c/", "s/", "T"],
        &["-aiL", "--exclude=d", "c/", "s/", "T"],
    ] {
        let _ = scene.agree("nothing", words);
    }
}

#[test]
fn another_owner_or_time_of_a_symlink_is_set_in_place() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scene = scene(&[("s/f", "x")]);
    symlink("f", scene.path("s/link")).unwrap();
    dated(&scene);
    let copy = scene.path("older");
    let made = std::process::Command::new("cp").arg("-a").arg(scene.path("s")).arg(&copy).status();
    assert!(made.unwrap().success());
    let before = fs::symlink_metadata(copy.join("link")).unwrap();
    std::os::unix::fs::lchown(copy.join("link"), Some(12), Some(100)).unwrap();
    let ran = scene.speil(&["-ai", "-b", "s/", "older"]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    let after = fs::symlink_metadata(copy.join("link")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((after.ino(), after.uid(), after.gid()), (before.ino(), 0, 0), "{}", ran.stdout);
    assert!(!copy.join("link~").is_symlink());
    assert!(ran.stdout.contains(".L....og... link -> f"), "{}", ran.stdout);
}

#[test]
fn a_dry_run_makes_no_target_where_nothing_new_is_made() {
    let scene = Scene::new();
    for words in [&["-ain", "--existing", "a/", "T"][..], &["-rin", "--existing", "a/", "T"]] {
        let _ = scene.agree("nothing", words);
    }
}
