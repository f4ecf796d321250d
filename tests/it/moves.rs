//! What moved while nobody watched is renamed on the target, and no content is sent.

use std::fs;
use std::path::Path;

use crate::support::churn::Churn;
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles, differences, told};

fn plant(root: &Path) {
    let mut rng = Rng::new(3);
    for dir in ["albums/summer/beach", "albums/winter", "inbox", "flat"] {
        fs::create_dir_all(root.join(dir)).unwrap();
        for at in 0..20 {
            let len = 1000 + rng.below(40_000);
            fs::write(root.join(dir).join(format!("{at}.jpg")), rng.bytes(len)).unwrap();
        }
    }
    let big = rng.bytes(3_000_000);
    fs::write(root.join("inbox/film.mp4"), big).unwrap();
    // Two names of one file move with their directory.
    fs::hard_link(root.join("albums/winter/1.jpg"), root.join("albums/winter/link.jpg")).unwrap();
}

/// Moves directories and files in every way that a pass has to find.
fn move_about(root: &Path) {
    let mv = |from: &str, to: &str| fs::rename(root.join(from), root.join(to)).unwrap();
    // A directory, into a new one; one out of another, which then goes.
    fs::create_dir_all(root.join("2026/july")).unwrap();
    mv("albums/summer/beach", "2026/july/beach");
    mv("albums/winter", "cold");
    fs::remove_dir_all(root.join("albums")).unwrap();
    // Files: renamed, moved and made private, a directory of them that also changed.
    mv("inbox/film.mp4", "2026/film of july.mp4");
    fs::set_permissions(
        root.join("2026/film of july.mp4"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    mv("flat", "round");
    fs::remove_file(root.join("round/3.jpg")).unwrap();
}

fn number(text: &str, of: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(of)).unwrap_or_else(|| panic!("{of}: {text}"));
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn a_single_pass_renames_what_moved_and_sends_no_content() {
    let stand = Stand::new();
    plant(&stand.source());
    let agent = crate::support::command::agent_command();
    let sync = |extra: &[&str]| {
        let mut arguments: Vec<String> =
            ["sync", "-aHAX", "--delete", "--stats", "-e"].map(String::from).to_vec();
        arguments.push(stand.sshd.ssh_command());
        arguments.push(format!("--agent={agent}"));
        arguments.extend(extra.iter().map(|word| (*word).to_owned()));
        arguments.push(format!("{}/", stand.source().display()));
        arguments.push(stand.sshd.target(&stand.target("standby")));
        stand.environment.run(arguments).succeeded().stdout
    };
    sync(&[]);
    assert_eq!(told(&differences(&stand.source(), &stand.target("standby"))), "");
    move_about(&stand.source());
    let dry = sync(&["-n"]);
    assert_eq!(number(&dry, "Literal data: "), 0, "{dry}");
    let moved = sync(&["-i"]);
    assert_eq!(number(&moved, "Literal data: "), 0, "{moved}");
    assert!(number(&moved, "Total bytes sent: ") < 20_000, "{moved}");
    assert_eq!(told(&differences(&stand.source(), &stand.target("standby"))), "");
}

#[test]
fn a_daemon_that_was_down_renames_what_moved_meanwhile() {
    let stand = Stand::new();
    plant(&stand.source());
    stand.mirror(&["standby"], &[]).terminate();
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(stand.target("standby").join(path)).unwrap().ino()
    };
    let before = [inode("albums/summer/beach"), inode("inbox/film.mp4"), inode("flat/7.jpg")];
    move_about(&stand.source());
    let mirror = stand.mirror(&["standby"], &[]);
    assert_settles(&stand, "standby", "after the start", &mirror);
    let after = [inode("2026/july/beach"), inode("2026/film of july.mp4"), inode("round/7.jpg")];
    assert_eq!(before, after);
    mirror.terminate();
}

#[test]
fn a_file_of_the_same_size_and_time_but_other_content_is_no_move() {
    let stand = Stand::new();
    let (old, new) = (stand.source().join("old"), stand.source().join("new"));
    fs::write(&old, "one content").unwrap();
    let stamp = fs::metadata(&old).unwrap().modified().unwrap();
    stand.mirror(&["standby"], &[]).terminate();
    fs::remove_file(&old).unwrap();
    fs::write(&new, "two content").unwrap();
    fs::File::options().write(true).open(&new).unwrap().set_modified(stamp).unwrap();
    let mirror = stand.mirror(&["standby"], &[]);
    assert_settles(&stand, "standby", "after the start", &mirror);
    assert_eq!(fs::read(stand.target("standby").join("new")).unwrap(), b"two content");
    mirror.terminate();
}

/// The copy is found first, and a name for it that moves along with the whole in the end.
#[test]
fn a_copy_of_a_part_of_what_moved_as_a_whole_is_removed() {
    let stand = Stand::new();
    let (album, copy) = (stand.source().join("old/album"), stand.source().join("copy"));
    fs::create_dir_all(album.join("beach")).unwrap();
    fs::write(album.join("beach/1.jpg"), "a picture").unwrap();
    fs::write(album.join("2.jpg"), "another").unwrap();
    let copied =
        std::process::Command::new("cp").arg("-a").args([album.join("beach"), copy.clone()]).status();
    assert!(copied.unwrap().success());
    stand.mirror(&["standby"], &[]).terminate();
    fs::remove_dir_all(copy).unwrap();
    fs::rename(album, stand.source().join("new")).unwrap();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    assert_settles(&stand, "standby", "after the start", &mirror);
    mirror.terminate();
}

#[test]
fn a_file_with_several_names_is_sent_once_to_a_target_that_has_none_of_them() {
    let stand = Stand::new();
    fs::create_dir_all(stand.source().join("backup.0")).unwrap();
    for at in 0..20 {
        let path = stand.source().join("backup.0").join(at.to_string());
        // In one message, and in pieces.
        fs::write(&path, vec![at; if at % 2 == 0 { 5000 } else { 300_000 }]).unwrap();
    }
    // As hard-linked backups are: the names come directory by directory.
    for copy in ["backup.1", "backup.2/deeper"] {
        fs::create_dir_all(stand.source().join(copy)).unwrap();
        for at in 0..20 {
            let name = at.to_string();
            fs::hard_link(stand.source().join("backup.0").join(&name), stand.source().join(copy).join(&name))
                .unwrap();
        }
    }
    let paths = [format!("{}/", stand.source().display()), format!("{}/", stand.target("copy").display())];
    let options = ["sync", "-aHAX", "--stats"].map(String::from);
    let said = stand.environment.run(options.into_iter().chain(paths)).succeeded().stdout;
    assert_eq!(number(&said, "Literal data: "), 10 * 305_000, "{said}");
    assert_eq!(told(&differences(&stand.source(), &stand.target("copy"))), "");
}

#[test]
fn a_small_content_that_was_sent_before_is_not_sent_again() {
    let stand = Stand::new();
    let content = Rng::new(4).bytes(200_000);
    for at in 0..30 {
        fs::write(stand.source().join(format!("{at:02}.jpg")), &content).unwrap();
    }
    let agent = crate::support::command::agent_command();
    let mut arguments: Vec<String> = ["sync", "-a", "--stats", "-e"].map(String::from).to_vec();
    arguments.push(stand.sshd.ssh_command());
    arguments.push(format!("--agent={agent}"));
    arguments.push(format!("{}/", stand.source().display()));
    arguments.push(stand.sshd.target(&stand.target("standby")));
    let stats = stand.environment.run(arguments).succeeded().stdout;
    assert_eq!(number(&stats, "Literal data: "), 200_000, "{stats}");
    let found = differences(&stand.source(), &stand.target("standby"));
    assert!(found.is_empty(), "{}", told(&found));
    // Live, a name may hold something else by the time that it is referred to.
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let mut rng = Rng::new(5);
    for round in 0..40 {
        let content = rng.bytes(5_000);
        let [a, b] = ["a", "b"].map(|name| stand.source().join(format!("{name}{}", round % 3)));
        fs::write(&a, &content).unwrap();
        fs::write(&b, &content).unwrap();
        fs::write(&a, rng.bytes(6_000)).unwrap();
        fs::rename(&b, stand.source().join(format!("c{round}"))).unwrap();
        fs::write(stand.source().join(format!("d{round}")), &content).unwrap();
    }
    assert_settles(&stand, "standby", "copies of what changes", &mirror);
    mirror.terminate();
}

#[test]
fn a_directory_that_leaves_the_tree_again_goes_from_the_target_again() {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    for round in 0..2 {
        fs::create_dir(stand.source().join("d")).unwrap();
        fs::write(stand.source().join("d/f"), "content").unwrap();
        assert_settles(&stand, "standby", &format!("came, round {round}"), &mirror);
        fs::rename(stand.source().join("d"), stand.path(&format!("away-{round}"))).unwrap();
        assert_settles(&stand, "standby", &format!("left, round {round}"), &mirror);
    }
    mirror.terminate();
}

/// Names that meet, copies, links and swaps: whatever a pass takes for a move, both trees are equal after it.
#[test]
fn after_one_pass_both_trees_are_equal_whatever_was_done() {
    let wish = std::env::var("SPEIL_SEEDS").ok();
    let seed = wish.and_then(|seeds| seeds.split("..").next()?.parse().ok()).unwrap_or(1);
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("copy"));
    for (number, mut churn) in
        [Churn::of_few(6000 + seed, &source), Churn::new(7000 + seed, &source)].into_iter().enumerate()
    {
        for round in 0..15 {
            churn.run(1 + 10 * (round % 6));
            let paths = [format!("{}/", source.display()), format!("{}/", target.display())];
            let options =
                ["sync", "-aHAX", "--delete", "--no-delete-guard", "--checksum", "--durability=none"];
            stand.environment.run(options.map(String::from).into_iter().chain(paths)).succeeded();
            let left = told(&differences(&source, &target));
            assert_eq!(left, "", "seed {seed}, editor {number}, round {round}");
        }
    }
}
