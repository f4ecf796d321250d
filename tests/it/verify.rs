//! `speil verify`: each difference is told, and nothing is changed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::support::command::{Outcome, agent_command};
use crate::support::stand::Stand;
use crate::support::tree::set_times;

fn plant(root: &Path) {
    fs::create_dir_all(root.join("dir/below")).unwrap();
    for name in ["same", "rotten", "longer", "mode", "old", "dir/one", "dir/below/two", "uno", "left.tmp"] {
        fs::write(root.join(name), format!("{name}, as it was")).unwrap();
    }
    fs::hard_link(root.join("same"), root.join("twin")).unwrap();
    symlink("here", root.join("link")).unwrap();
}

fn verify(stand: &Stand, options: &[&str]) -> Outcome {
    let target = stand.sshd.target(&stand.target("standby"));
    let (source, agent) = (stand.source().display().to_string(), format!("--agent={}", agent_command()));
    let fixed = ["verify", "-e", &stand.ssh_command, &agent, &source, &target];
    stand.environment.run([&fixed, options].concat())
}

/// Everything that a change would show in, of every entry below a root, the root included.
fn stamps(root: &Path) -> Vec<(String, i64, i64, u64)> {
    let mut all: Vec<_> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            (entry.path().display().to_string(), meta.ctime(), meta.ctime_nsec(), meta.ino())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_difference_is_told_with_both_hashes_and_nothing_is_changed() {
    let stand = Stand::new();
    plant(&stand.source());
    let (source, target) = (stand.source(), stand.target("standby"));
    let pass = ["sync", "-aHAX", &format!("{}/", source.display()), &target.display().to_string()];
    stand.environment.run(pass).succeeded();
    let equal = verify(&stand, &["-v"]).succeeded();
    assert!(equal.stdout.starts_with("0 differences in 13 entries"), "{}", equal.stdout);
    // Size and time stay: nothing but the bytes tells.
    let stamp = rustix::fs::stat(target.join("rotten")).unwrap();
    fs::write(target.join("rotten"), "rotten, as it Was").unwrap();
    let time = rustix::fs::Timespec { tv_sec: stamp.st_mtime, tv_nsec: stamp.st_mtime_nsec as _ };
    set_times(&target.join("rotten"), time).unwrap();
    fs::write(target.join("longer"), "longer than it was on the other side").unwrap();
    fs::set_permissions(target.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(target.join("uno")).unwrap();
    fs::remove_dir_all(target.join("dir/below")).unwrap();
    fs::create_dir(target.join("more")).unwrap();
    fs::write(target.join("more/of it"), "x").unwrap();
    fs::write(target.join("left.tmp"), "excluded").unwrap();
    fs::remove_file(target.join("link")).unwrap();
    symlink("there", target.join("link")).unwrap();
    fs::remove_file(target.join("twin")).unwrap();
    fs::copy(target.join("same"), target.join("twin")).unwrap();
    let same = rustix::fs::stat(source.join("same")).unwrap();
    set_times(
        &target.join("twin"),
        rustix::fs::Timespec { tv_sec: same.st_mtime, tv_nsec: same.st_mtime_nsec as _ },
    )
    .unwrap();
    // What another session has under way is not its business either.
    fs::write(target.join(".speil-0123456789abcdef"), "half").unwrap();
    let before = (stamps(&source), stamps(&target));
    let told = verify(&stand, &["--exclude=*.tmp"]);
    assert_eq!((told.code(), told.stderr.as_str()), (23, ""), "{}", told.stdout);
    assert_eq!((stamps(&source), stamps(&target)), before);
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let line = |name: &str| {
        let found = told.stdout.lines().find(|line| line.contains(&format!("\"{name}\"")));
        found.unwrap_or_else(|| panic!("{name} is not told: {}", told.stdout)).to_owned()
    };
    let rotten = line("rotten");
    assert!(rotten.starts_with("content"), "{rotten}");
    assert!(rotten.contains(&format!("source {}", hash("rotten, as it was"))), "{rotten}");
    assert!(rotten.contains(&format!("target {}", hash("rotten, as it Was"))), "{rotten}");
    assert!(line("longer").starts_with("content"));
    assert!(line("mode").contains("mode 0644 on the source, 0600 on the target"), "{}", line("mode"));
    for (name, word) in [
        ("uno", "missing"),
        ("dir/below", "missing"),
        ("dir/below/two", "missing"),
        ("more", "extra"),
        ("more/of it", "extra"),
        ("link", "metadata"),
        ("twin", "links"),
        ("same", "links"),
    ] {
        assert!(line(name).starts_with(word), "{}", line(name));
    }
    assert!(!told.stdout.contains(".tmp") && !told.stdout.contains(".speil"), "{}", told.stdout);
    let json = verify(&stand, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let differences = json["differences"].as_array().unwrap();
    let rotten = differences.iter().find(|difference| difference["path"] == "rotten").unwrap();
    assert_eq!(rotten["target"]["blake3"], hash("rotten, as it Was"));
    assert!(differences.iter().any(|difference| difference["path"] == "left.tmp"));
}

#[test]
fn a_live_mirror_is_verified_while_it_is_at_work() {
    let stand = Stand::new();
    plant(&stand.source());
    let mirror = stand.mirror(&["standby"], &[]);
    verify(&stand, &[]).succeeded();
    mirror.terminate();
    let nowhere = stand.path("nowhere").display().to_string();
    let source = stand.source().display().to_string();
    assert_eq!(stand.environment.run(["verify", &source, &nowhere]).code(), 11);
    assert!(!stand.path("nowhere").exists());
}
