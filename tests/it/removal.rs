//! `--remove-source-files`: what the target has goes here, and nothing else. rsync is the judge.

use std::fs;

use crate::sources::{Scene, listed};
use crate::support::command::agent_command;
use crate::support::sshd::Sshd;

/// Fills two sources alike.
fn fill(scene: &Scene) {
    for side in ["ours", "theirs"] {
        let _ = fs::remove_dir_all(scene.path(side));
        scene.speil(&["-aH", "--mkpath", "c/", "a", &format!("{side}/s/")]).succeeded();
        fs::create_dir_all(scene.path(side).join("s/only/dirs")).unwrap();
        let link = scene.path(side).join("s/a/x/second");
        fs::hard_link(scene.path(side).join("s/a/x/f"), link).unwrap();
        scene.write(&format!("{side}/s/new"), "just written");
        scene.write(&format!("{side}/t/one.log"), "another");
    }
}

#[test]
fn what_the_target_has_goes_from_the_source_as_in_rsync() {
    let scene = Scene::new();
    for options in [
        &["-a"][..],
        &["-aH"],
        &["-r"],
        &["-rl"],
        &["-ac"],
        &["-an"],
        &["-au"],
        &["-a", "--delete"],
        &["-a", "--exclude=*.log"],
        &["-a", "--existing"],
        &["-a", "--max-size=5"],
        &["-d"],
    ] {
        for sources in [&["s/"][..], &["s"], &["s/one.log"], &["s/a", "s/dir/", "s/link"]] {
            if options.contains(&"--existing") && *sources == ["s"] {
                // A directory that is missing is made; that has nothing to do with what is removed.
                continue;
            }
            fill(&scene);
            let words = |side: &str| -> Vec<String> {
                let of = |word: &&str| format!("{side}/{word}");
                let options = options.iter().map(|word| (*word).to_owned());
                let places = sources.iter().map(of).chain([format!("{side}/t/")]);
                options.chain(["--remove-source-files".to_owned()]).chain(places).collect()
            };
            let (ours, theirs) = (words("ours"), words("theirs"));
            let call = |words: &[String]| words.join("\u{1f}");
            let theirs = scene.rsync(&call(&theirs).split('\u{1f}').collect::<Vec<_>>());
            let ours = scene.speil(&call(&ours).split('\u{1f}').collect::<Vec<_>>());
            let told = format!("{options:?} {sources:?}\n{}\n{}", ours.stderr, theirs.stderr);
            assert_eq!(ours.code(), theirs.code(), "{told}");
            assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{told}");
        }
    }
}

#[test]
fn what_goes_to_another_host_or_comes_from_one_goes_where_it_was() {
    let scene = Scene::new();
    let sshd = Sshd::start();
    let (ssh, agent) = (sshd.ssh_command(), format!("--agent={}", agent_command()));
    for pull in [false, true] {
        fill(&scene);
        let place = |name: &str, is_far: bool| {
            if is_far { sshd.target(&scene.path(name)) } else { name.to_owned() }
        };
        let run = |side: &str, more: &[&str]| {
            let (from, to) = (place(&format!("{side}/s/"), pull), place(&format!("{side}/t/"), !pull));
            let words =
                [&["-a", "--remove-source-files", "-e", &ssh], more, &[from.as_str(), to.as_str()]].concat();
            if more.is_empty() { scene.rsync(&words) } else { scene.speil(&words) }.succeeded();
        };
        run("theirs", &[]);
        run("ours", &[&agent]);
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "pull: {pull}");
        assert!(scene.path("ours/t/a/x/f").exists() && !scene.path("ours/s/a/x/f").exists());
    }
}

#[test]
fn what_the_target_does_not_have_stays() {
    let scene = Scene::new();
    // A directory is in the way of one file; another one is being written; a third has what only looks the same.
    fs::create_dir_all(scene.path("t/x/f/full")).unwrap();
    scene.write("t/same", "a's OWN");
    let writer = fs::OpenOptions::new().append(true).open(scene.path("a/top")).unwrap();
    crate::sources::date(&scene.path("t/same"), 1_100_000_000);
    let outcome = scene.speil(&["-a", "--remove-source-files", "a/", "t/"]);
    assert_eq!(outcome.code(), 23, "{}", outcome.stderr);
    assert!(scene.path("a/x/f").exists() && scene.path("a/top").exists(), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("remove \"top\": it has changed since, or is being written"),
        "{}",
        outcome.stderr
    );
    // Their change times are of before the run, so the quick check is believed, unless it began within the second.
    drop(writer);
    let again = scene.speil(&["-ac", "--remove-source-files", "--force-root", "a/", "t/"]);
    assert!(!scene.path("a/top").exists() && scene.path("a/x/f").exists(), "{}", again.stderr);
    for (words, says) in [
        (&["-aL"][..], "-L, -k"),
        (&["-a", "--ignore-existing"], "--ignore-existing"),
        (&["-a", "--durability=none"], "--durability=none"),
    ] {
        let refused = scene.speil(&[words, &["--remove-source-files", "a/", "t/"]].concat());
        assert!(refused.code() == 1 && refused.stderr.contains(says), "{}", refused.stderr);
    }
    let live = scene.env.run(["mirror", "--remove-source-files", "a/", "t/"]);
    assert_eq!(live.code(), 1, "{}", live.stderr);
}
