//! Everything a file is, on targets of every kind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::support::command::{copy_program, eventually};
use crate::support::faults::{Mount, is_root};
use crate::support::stand::{Stand, assert_settles, differences, told};
use crate::support::tree::kept_below;

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn plant(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    for at in 0..40 {
        fs::write(root.join(format!("a/{at}")), format!("file {at}")).unwrap();
    }
    fs::write(root.join("a/b/big"), vec![7; 700_000]).unwrap();
    std::os::unix::fs::symlink("../nowhere", root.join("a/link")).unwrap();
}

/// What a second start sends.
fn sent_files(stand: &Stand) -> u64 {
    let control = format!("--control={}", stand.dir.path().join("control").display());
    let status = stand.environment.run(["status", "--json", &control]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let text = status.to_string();
    let at = text.find("\"files\":").map(|at| at + 8).unwrap_or_else(|| panic!("{text}"));
    text[at..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

#[test]
fn a_target_of_whole_seconds_converges_and_is_not_sent_everything_again() {
    let stand = Stand::new();
    let image = stand.dir.path().join("image");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    if !is_root() {
        return;
    }
    assert!(run("mkfs.ext4", &["-q", "-I", "128", image.to_str().unwrap()]));
    let target = stand.target("standby");
    let _mount = Mount::loop_image(&image, &target);
    fs::remove_dir(target.join("lost+found")).unwrap();
    plant(&stand.source());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let equal = |stand: &Stand| {
        let judge = [
            "-aHn",
            "--delete",
            "--checksum",
            "--itemize-changes",
            "--modify-window=0",
            "--exclude=/.speil",
            "--exclude=/lost+found",
        ];
        let output = Command::new("rsync")
            .args(judge)
            .arg(format!("{}/", stand.source().display()))
            .arg(format!("{}/", target.display()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    eventually("both are equal", || equal(&stand).is_empty());
    // A rewrite of the same size within the second still arrives while events tell of it.
    fs::write(stand.source().join("a/1"), "FILE 1").unwrap();
    eventually("the rewrite", || fs::read(target.join("a/1")).is_ok_and(|read| read == b"FILE 1"));
    assert!(
        mirror.stderr().iter().chain(&mirror.stdout()).filter(|line| line.contains("whole seconds")).count()
            <= 1
    );
    mirror.terminate();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    assert_eq!(sent_files(&stand), 0, "{:?}", mirror.stdout());
    mirror.terminate();
}

#[test]
fn an_agent_without_rights_keeps_all_but_owners_says_so_once_and_sends_nothing_again() {
    if !is_root() {
        return;
    }
    let stand = Stand::new();
    plant(&stand.source());
    fs::set_permissions(stand.source().join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
    std::os::unix::fs::chown(stand.source().join("a/3"), Some(33), Some(33)).unwrap();
    // The program where an ordinary user may start it, and a root that is theirs.
    let program = stand.dir.path().join("speil");
    copy_program(&program);
    fs::set_permissions(stand.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let target = stand.target("standby");
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::chown(&target, Some(65534), Some(65534)).unwrap();
    let agent =
        format!("--agent=setpriv --reuid=65534 --regid=65534 --clear-groups {} agent", program.display());
    let options = [agent.as_str(), "--reconcile-interval=never"];
    let mirror = stand.mirror(&["standby"], &options);
    let same = |name: &str| {
        let (a, b) = (stand.source().join(name), target.join(name));
        let (Ok(x), Ok(y)) = (fs::symlink_metadata(&a), fs::symlink_metadata(&b)) else { return false };
        x.mode() == y.mode() && x.mtime_nsec() == y.mtime_nsec() && fs::read(&a).ok() == fs::read(&b).ok()
    };
    eventually("all is there", || ["a", "a/3", "a/b", "a/b/big", "a/link"].iter().all(|name| same(name)));
    assert_eq!(fs::metadata(target.join("a/3")).unwrap().uid(), 65534);
    // Below a directory that its owner may not write, things change all the same.
    fs::write(stand.source().join("a/b/new"), "new").unwrap();
    fs::remove_file(stand.source().join("a/b/big")).unwrap();
    eventually("the new file", || same("a/b/new") && !target.join("a/b/big").exists() && same("a/b"));
    let told = mirror.stdout().iter().chain(&mirror.stderr()).filter(|line| line.contains("owner")).count();
    assert_eq!(told, 1, "{:?} {:?}", mirror.stdout(), mirror.stderr());
    mirror.terminate();
    let mirror = stand.mirror(&["standby"], &options);
    assert_eq!(sent_files(&stand), 0, "{:?}", mirror.stdout());
    mirror.terminate();
}

#[test]
fn an_immutable_file_is_a_problem_of_its_own_and_heals() {
    let stand = Stand::new();
    if !is_root() {
        return;
    }
    let image = stand.dir.path().join("image");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    assert!(run("mkfs.ext4", &["-q", image.to_str().unwrap()]));
    let target = stand.target("standby");
    let _mount = Mount::loop_image(&image, &target);
    fs::remove_dir(target.join("lost+found")).unwrap();
    plant(&stand.source());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let fixed = target.join("a/7");
    assert!(run("chattr", &["+i", fixed.to_str().unwrap()]));
    fs::write(stand.source().join("a/7"), "changed").unwrap();
    fs::write(stand.source().join("a/8"), "changed").unwrap();
    eventually("the problem", || {
        mirror.stderr().iter().any(|line| line.contains("a/7") && line.contains("EPERM"))
    });
    eventually("the other file", || fs::read(target.join("a/8")).is_ok_and(|read| read == b"changed"));
    assert_eq!(fs::read(&fixed).unwrap(), b"file 7");
    assert!(run("chattr", &["-i", fixed.to_str().unwrap()]));
    assert_settles(&stand, "standby", "after chattr -i", &mirror);
    mirror.terminate();
}

#[test]
fn an_unreadable_file_is_a_problem_and_nothing_is_deleted_for_it() {
    if !is_root() {
        return;
    }
    // Root reads everything: the mirror itself runs as an ordinary user here.
    let stand = Stand::new();
    plant(&stand.source());
    let nobody = |path: &Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    let program = stand.dir.path().join("speil");
    copy_program(&program);
    for dir in [stand.dir.path().to_owned(), stand.target("standby")] {
        let _ = fs::create_dir(&dir);
        nobody(&dir);
    }
    let sync = || {
        let mut command = stand.environment.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(["sync", "-rlt", "--delete"]);
        command.arg(format!("{}/", stand.source().display())).arg(stand.target("standby"));
        command.output().unwrap()
    };
    let output = sync();
    assert!(output.status.success(), "{output:?}");
    fs::set_permissions(stand.source().join("a/5"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(stand.source().join("a/5"), "changed, and nobody may read it").unwrap();
    fs::set_permissions(stand.source().join("a/b"), fs::Permissions::from_mode(0o000)).unwrap();
    let output = sync();
    assert_eq!(output.status.code(), Some(23), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("a/5") && said.contains("a/b") && said.contains("EACCES"), "{said}");
    assert_eq!(fs::read(stand.target("standby").join("a/5")).unwrap(), b"file 5");
    assert!(stand.target("standby").join("a/b/big").exists());
}

#[test]
fn what_a_promoted_standby_took_is_kept_when_the_old_primary_comes_back() {
    let stand = Stand::new();
    plant(&stand.source());
    let target = stand.target("standby");
    stand.mirror(&["standby"], &[]).terminate();
    assert_eq!(told(&differences(&stand.source(), &target)), "");
    // The standby serves: uploads come, one file is edited, one is removed.
    for at in 0..5 {
        fs::write(target.join(format!("upload {at}")), format!("of the standby {at}")).unwrap();
        fs::write(target.join(format!("a/{at}")), format!("edited on the standby {at}")).unwrap();
    }
    fs::remove_file(target.join("a/9")).unwrap();
    // The old primary comes back.
    let mirror = stand.mirror(&["standby"], &[]);
    assert_settles(&stand, "standby", "after the return", &mirror);
    let kept = kept_below(&target.join(".speil/strangers"));
    for at in 0..5 {
        assert_eq!(kept[&format!("upload {at}")], [format!("of the standby {at}")]);
        assert_eq!(kept[&format!("a/{at}")], [format!("edited on the standby {at}")]);
    }
    assert_eq!(kept.len(), 10);
    assert!(mirror.stderr().iter().any(|line| line.contains("someone else")), "{:?}", mirror.stderr());
    // Nothing of the mirror's own counts as a stranger's.
    fs::write(stand.source().join("a/1"), "again").unwrap();
    assert_settles(&stand, "standby", "after another edit", &mirror);
    mirror.terminate();
    stand.mirror(&["standby"], &["--checksum"]).terminate();
    assert_eq!(kept_below(&target.join(".speil/strangers")).len(), 10);
}

#[test]
fn a_filled_target_keeps_its_own_entries_through_reconnects_until_they_are_let_go() {
    let stand = Stand::new();
    plant(&stand.source());
    let target = stand.target("standby");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("of the host"), "older than the mirror").unwrap();
    let control = format!("--control={}", stand.dir.path().join("control").display());
    for _ in 0..2 {
        let guarded = stand.guarded_mirror(&["standby"], &[]);
        eventually("the deletes are held", || {
            guarded.stderr().iter().any(|line| line.contains("delete held"))
        });
        assert!(target.join("of the host").exists());
        guarded.terminate();
    }
    let guarded = stand.guarded_mirror(&["standby"], &[]);
    eventually("the deletes are held", || guarded.stderr().iter().any(|line| line.contains("delete held")));
    stand.environment.run(["approve", &control]).succeeded();
    assert_settles(&stand, "standby", "after approve", &guarded);
    guarded.terminate();
}

#[test]
fn a_refuse_file_closes_the_target_with_its_text() {
    let stand = Stand::new();
    plant(&stand.source());
    fs::create_dir_all(stand.target("standby").join(".speil")).unwrap();
    fs::write(stand.target("standby").join(".speil/refuse"), "promoted on Saturday, ask Kari\n").unwrap();
    let target = stand.target("standby").display().to_string();
    let source = format!("{}/", stand.source().display());
    let refused = stand.environment.run(["sync", "-a", &source, &target]);
    assert_ne!(refused.code(), 0);
    assert!(refused.stderr.contains("ask Kari"), "{}", refused.stderr);
    assert!(!stand.target("standby").join("a").exists());
}

#[test]
fn options_that_ask_the_target_hold_for_what_changes_live_as_for_passes() {
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(100_000);
    for (option, changed, fresh) in [
        // What "standing" and "newer" hold on the target in the end, and whether "fresh" and "moved" come.
        ("--ignore-existing", ["old!", "new!"], true),
        ("--existing", ["1234", "1234"], false),
        ("--update", ["1234", "new!"], true),
        ("--size-only", ["old!", "new!"], true),
        ("--stats", ["1234", "1234"], true),
    ] {
        let stand = Stand::new();
        let (source, target) = (stand.source(), stand.target("standby"));
        let names = ["standing", "newer"];
        let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", option]);
        for (name, old) in names.into_iter().zip(["old!", "new!"]) {
            fs::write(target.join(name), old).unwrap();
            // As with rsync, a file of the same size and time is the same to these options.
            let at = if name == "newer" { future } else { std::time::UNIX_EPOCH };
            fs::File::options().write(true).open(target.join(name)).unwrap().set_modified(at).unwrap();
        }
        for name in names {
            fs::write(source.join(name), "1234").unwrap();
        }
        fs::write(source.join("fresh"), "fresh").unwrap();
        fs::create_dir(source.join("album")).unwrap();
        fs::write(source.join("album/1.jpg"), "picture").unwrap();
        fs::rename(source.join("fresh"), source.join("moved")).unwrap();
        let wait = format!("--control={}", stand.control().display());
        stand.environment.run(["wait", "--timeout=60s", &wait]).succeeded();
        for (name, wanted) in names.into_iter().zip(changed) {
            assert_eq!(fs::read_to_string(target.join(name)).unwrap(), wanted, "{option}: {name}");
        }
        let there = ["fresh", "moved", "album/1.jpg"].map(|name| target.join(name).exists());
        assert_eq!(there, [false, fresh, fresh], "{option}");
        mirror.terminate();
    }
}

#[test]
fn of_names_that_differ_in_case_only_one_stands_where_case_does_not_count() {
    let stand = Stand::new();
    let (source, target) = (stand.source(), stand.target("standby"));
    let write = |name: &str| {
        fs::create_dir_all(source.join(name).parent().unwrap()).unwrap();
        fs::write(source.join(name), name.repeat(100)).unwrap();
    };
    for name in ["A.jpg", "a.jpg", "Album/1.jpg", "album/2.jpg", "album/deep/3.jpg", "plain"] {
        write(name);
    }
    let agent = format!("--agent={} --fold-case", crate::support::command::agent_command());
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never", &agent]);
    let control = format!("--control={}", stand.control().display());
    let says = |wanted: &[&str]| {
        let told = mirror.stderr().join("\n");
        wanted.iter().all(|name| told.contains(&format!("create beside a name of other case \"{name}\"")))
    };
    let there = || {
        let mut names: Vec<String> = walkdir::WalkDir::new(&target)
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&target).unwrap().display().to_string())
            .filter(|name| !name.starts_with(".speil"))
            .collect();
        names.sort();
        names
    };
    eventually("the second names are told", || says(&["a.jpg", "album"]));
    eventually("all that can stand", || there() == ["A.jpg", "Album/1.jpg", "plain"]);
    // Live, and in passes: neither takes one for the other.
    write("PLAIN");
    fs::remove_file(source.join("PLAIN")).unwrap();
    write("Plain");
    eventually("a second name that comes live is told", || says(&["Plain"]));
    for _ in 0..3 {
        stand.environment.run(["reconcile", &control]).succeeded();
    }
    fs::rename(source.join("plain"), source.join("plAIn")).unwrap();
    fs::remove_file(source.join("Plain")).unwrap();
    fs::remove_file(source.join("A.jpg")).unwrap();
    fs::remove_dir_all(source.join("Album")).unwrap();
    eventually("what was in the way is gone, and the others come", || {
        there() == ["a.jpg", "album/2.jpg", "album/deep/3.jpg", "plAIn"]
    });
    for name in there() {
        assert_eq!(
            fs::read_to_string(target.join(&name)).unwrap(),
            fs::read_to_string(source.join(&name)).unwrap()
        );
    }
    mirror.terminate();
}
