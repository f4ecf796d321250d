//! The cron line: `rsync -avz --delete -e "ssh -i KEY"` with one word changed.

use std::fs;
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
