//! The cron line: `rsync -avz --delete -e "ssh -i KEY"` with one word changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::command::{Environment, agent_command};
use crate::support::sshd::Sshd;
use crate::support::tree::Upload;

#[test]
fn the_cron_line_mirrors_over_ssh_and_a_second_run_changes_nothing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("uploads"), dir.path().join("standby"));
    fs::create_dir(&source).unwrap();
    Upload::of(400, 7).grow(&source).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(target.join("left over.jpg"), b"old").unwrap();
    let (environment, sshd) = (Environment::new(), Sshd::start());
    let line = |extra: &[&str]| {
        let ssh = sshd.ssh_command();
        let mut arguments = vec!["sync", "-avz", "--delete", "-e", &ssh];
        let agent = format!("--agent={}", agent_command());
        arguments.push(&agent);
        arguments.extend(extra);
        let (from, to) = (format!("{}/", source.display()), format!("{}/", sshd.target(&target)));
        arguments.extend([from.as_str(), to.as_str()]);
        environment.run(arguments)
    };
    let first = line(&[]).succeeded();
    assert!(first.stdout.contains("deleting left over.jpg"), "{}", first.stdout);
    let judge = Command::new("rsync")
        .args(["-an", "--delete", "--checksum", "--itemize-changes", "--modify-window=-1"])
        .args([format!("{}/", source.display()), format!("{}/", target.display())])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&judge.stdout), "");
    let second = line(&["-i"]).succeeded();
    let changes: Vec<&str> = second.stdout.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(changes, [""; 0], "a second run has nothing to do");
    assert!(second.stdout.contains("total size is"), "{}", second.stdout);
    assert!(!target.join(".speil").exists(), "a single pass leaves nothing of its own");
}

/// A directory with `dir/f`, links to it, and a target that is there.
fn small_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("dir/f"), b"x").unwrap();
    fs::create_dir(dir.path().join("there")).unwrap();
    fs::write(dir.path().join("there/other"), b"x").unwrap();
    symlink("dir", dir.path().join("link")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    dir
}

/// What stands below `dir`: type, mode, path, and where a link leads.
fn listed(dir: &Path) -> Vec<String> {
    let output =
        Command::new("find").args([".", "-printf", "%y %m %p %l\n"]).current_dir(dir).output().unwrap();
    let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_source_and_target_are_without_a_slash_or_missing_is_what_rsync_takes_them_for() {
    let environment = Environment::new();
    let run = |mut command: Command, line: &str| {
        let dir = small_tree();
        let output = command.args(line.split(' ')).current_dir(dir.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), listed(dir.path()), told)
    };
    for line in [
        "-a dir new/",
        "-a dir new",
        "-a dir/ new",
        "-a dir/ new/er/",
        "-a dir new/er/",
        "-an dir new/",
        "-an dir new",
        "-a link/ new/",
        "-a link new/",
        "-a link new",
        "-a link there",
        "-a link ./there/",
        "-a --delete link there",
        "-a dangling new/",
        "-rl link there/",
        "-l link there/",
        "-r link there/",
        "-an link new/",
    ] {
        let (code, tree, _) = run(environment.command("rsync"), line);
        let (ours, our_tree, told) = run(environment.speil(["sync"]), line);
        assert_eq!((ours, our_tree), (code, tree), "{line}: {told}");
    }
    let (_, _, told) = run(environment.speil(["sync"]), "-a link there");
    assert!(told.contains("is a symlink and is sent as one"), "{told}");
}
