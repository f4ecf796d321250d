//! What becomes of symlinks: `-L`, `-k`, `--copy-unsafe-links`, `--safe-links`. rsync is the judge.

use std::fs;
use std::os::unix::fs::symlink;

use crate::sources::{Scene, date, listed};
use crate::support::command::SPEIL;
use crate::support::sshd::Sshd;

/// A tree of symlinks of every kind: up, down, out, absolute, to files and directories, and to nothing.
fn scene() -> Scene {
    let scene = Scene::new();
    for (name, content) in [
        ("s/d/f", "f"),
        ("s/x/g", "the g"),
        ("out/f", "outside"),
        ("out/od/h", "outside, too"),
        ("s/plain", "p"),
    ] {
        scene.write(name, content);
    }
    let out = scene.path("out").display().to_string();
    for (name, text) in [
        ("s/in", "d/f"),
        ("s/dir", "d"),
        ("s/chain", "dir"),
        ("s/outd", "../out"),
        ("s/outf", "../out/f"),
        ("s/d/side", "../x/g"),
        ("s/d/up2", "../../out"),
        ("s/mid", "d/../x/g"),
        ("s/dot", "./d/f"),
        ("s/dotup", "./../out/f"),
        ("s/x/dots", "d/.."),
        ("out/rel", "f"),
        ("s/abs", &format!("{out}/f")),
        ("s/absd", &format!("{out}/od")),
        ("link", "out/f"),
        ("way", "s"),
    ] {
        symlink(text, scene.path(name)).unwrap();
    }
    date(&scene.path("."), 1_100_000_000);
    scene
}

#[test]
fn symlinks_are_followed_and_left_out_as_in_rsync() {
    let scene = scene();
    fs::remove_file(scene.path("s/x/dots")).unwrap();
    for options in [
        &["-aiL"][..],
        &["-ai", "--copy-unsafe-links"],
        &["-ai", "--safe-links"],
        &["-aik"],
        &["-aiHL"],
        &["-aikc"],
        &["-ai", "--copy-unsafe-links", "--safe-links"],
        &["-aik", "--safe-links"],
        &["-aiL", "--exclude=od", "--exclude=/s/dir", "--exclude=/dir"],
        &["-aniL"],
        &["-aiL", "--delete"],
        &["-ai", "--safe-links", "--delete"],
    ] {
        for words in [
            &["s/", "T"][..],
            &["s/", "a/", "T"],
            &["s", "a", "T"],
            &["link", "way", "s/abs", "s/absd", "T/"],
        ] {
            let _ = scene.agree("dir", &[options, words].concat());
        }
    }
    // A second run has nothing to do.
    scene.speil(&["-aL", "s/", "twice"]).succeeded();
    let again = scene.speil(&["-aiL", "s/", "twice"]);
    assert_eq!((again.code(), again.stdout.as_str()), (0, ""), "{}", again.stderr);
}

#[test]
fn a_named_symlink_without_a_slash_is_what_it_stands_for() {
    let scene = scene();
    let leads = |options: &[&str], source: &str| {
        let _ = fs::remove_dir_all(scene.path("ours"));
        let _ = fs::remove_dir_all(scene.path("theirs"));
        fs::create_dir(scene.path("ours")).unwrap();
        fs::create_dir(scene.path("theirs")).unwrap();
        let ours = scene.speil(&[options, &[source, "ours"]].concat());
        let theirs = scene.rsync(&[options, &[source, "theirs"]].concat());
        assert_eq!(ours.code(), theirs.code(), "{options:?} {source} {} {}", ours.stderr, theirs.stderr);
        assert_eq!(listed(&scene.path("ours")), listed(&scene.path("theirs")), "{options:?} {source}");
    };
    fs::remove_file(scene.path("s/x/dots")).unwrap();
    for options in [&["-aL"][..], &["-ak"], &["-a", "--copy-unsafe-links"], &["-a", "--safe-links"]] {
        for source in ["way", "s/absd", "s/chain", "s/outd"] {
            leads(options, source);
        }
    }
}

#[test]
fn a_symlink_to_nothing_is_an_error_and_one_that_leads_back_up_ends() {
    let scene = scene();
    symlink("nowhere", scene.path("s/gone")).unwrap();
    fs::remove_file(scene.path("s/x/dots")).unwrap();
    let (ours, _) = scene.agree("nothing", &["-aiL", "s/", "T"]);
    assert_eq!(ours.code(), 23);
    assert!(ours.stderr.contains("\"gone\": symlink has no referent"), "{}", ours.stderr);
    fs::remove_file(scene.path("s/gone")).unwrap();
    for (name, text) in [("s/d/loop", ".."), ("s/x/one", "two"), ("s/x/two", "one"), ("s/x/here", ".")] {
        symlink(text, scene.path(name)).unwrap();
    }
    let ours = scene.speil(&["-aiL", "s/", "ours/t/"]);
    assert_eq!(ours.code(), 23);
    for name in ["d/loop", "x/one", "x/two", "x/here"] {
        let says = format!("\"{name}\": symlink leads back");
        assert!(ours.stderr.contains(&says), "{says}\n{}", ours.stderr);
    }
    assert!(scene.path("ours/t/d/f").is_file() && !scene.path("ours/t/d/loop").exists());
    // What is not known is not deleted.
    fs::create_dir_all(scene.path("ours/t/d/loop")).unwrap();
    scene.write("ours/t/d/loop/kept", "");
    let again = scene.speil(&["-aL", "--delete", "s/", "ours/t/"]);
    assert!(again.code() == 23 && scene.path("ours/t/d/loop/kept").exists(), "{}", again.stderr);
}

#[test]
fn symlinks_are_followed_on_the_way_to_another_host_and_from_one() {
    let scene = scene();
    fs::remove_file(scene.path("s/x/dots")).unwrap();
    let sshd = Sshd::start();
    for options in [&["-aiL"][..], &["-ai", "--copy-unsafe-links"], &["-ai", "--safe-links"], &["-aik"]] {
        scene.agree_afar(&sshd, options, "s/");
    }
}

#[test]
fn a_forced_command_follows_no_symlink_out_of_its_root_and_none_past_its_filter() {
    let scene = scene();
    let sshd = Sshd::start();
    let root = scene.path("s").display().to_string();
    let (keys, ssh) = (sshd.dir().join("authorized_keys"), sshd.ssh_command());
    let key = fs::read_to_string(&keys).unwrap();
    let pull = |more: &str, options: &[&str]| {
        fs::write(&keys, format!("command=\"{SPEIL} agent --root {root} --send{more}\",restrict {key}"))
            .unwrap();
        let _ = fs::remove_dir_all(scene.path("ours"));
        let words: Vec<&str> = ["-a", "-e", &ssh].iter().chain(options).copied().collect();
        scene.speil(&[&words[..], &["ours/"]].concat())
    };
    let login = sshd.login();
    let pulled = pull("", &["-L", &format!("{login}:")]);
    assert_eq!(pulled.code(), 23, "{}", pulled.stderr);
    let came = listed(&scene.path("ours"));
    assert!(scene.path("ours/chain/f").is_file() && scene.path("ours/in").is_file(), "{came}");
    for name in ["outf", "outd", "abs", "absd", "d/up2", "dotup", "dir/up2"] {
        assert!(!scene.path("ours").join(name).exists(), "{name}\n{came}");
        let says = format!("\"{name}\": symlink leads out of");
        assert!(pulled.stderr.contains(&says), "{says}\n{}", pulled.stderr);
    }
    let single =
        pull("", &["-L", &format!("{login}:outf"), &format!("{login}:in"), &format!("{login}:absd")]);
    assert!(single.code() == 23 && scene.path("ours/in").is_file(), "{}", single.stderr);
    assert!(!scene.path("ours/outf").exists() && !scene.path("ours/absd").exists());
    let hidden = pull(" --filter 'H /x'", &["-L", &format!("{login}:")]);
    assert!(hidden.code() != 0 && hidden.stderr.contains("follows no symlinks"), "{}", hidden.stderr);
    assert!(!scene.path("ours").exists());
    let moved = pull("", &["--remove-source-files", &format!("{login}:")]);
    assert!(moved.code() != 0 && moved.stderr.contains("may only read"), "{}", moved.stderr);
    assert!(scene.path("s/plain").exists());
}
