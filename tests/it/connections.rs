//! One session over several connections.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::churn::Churn;
use crate::support::command::{Background, agent_command, eventually};
use crate::support::process::{Process, descendants, send};
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles, differences};

const MIB: usize = 1 << 20;

/// Files of all ways of sending: in one message, in pieces, as a delta.
fn plant(root: &Path, seed: u64) {
    let mut rng = Rng::new(seed);
    for (name, len) in
        [("empty", 0), ("small", 700), ("middle", 300_000), ("large", 9 * MIB), ("other", 5 * MIB)]
    {
        fs::write(root.join(name), rng.bytes(len)).unwrap();
    }
}

/// The connections of a mirror, oldest first.
fn connections(mirror: &Background) -> Vec<Process> {
    let mut all = descendants(mirror.pid());
    all.retain(|process| process.name == "ssh" && process.state != 'Z');
    all
}

/// What the target's root holds of speil's own, its directory of state aside.
fn leftovers(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string());
    let own = |name: &String| name.starts_with(".speil-");
    names.map(Result::unwrap_or_default).filter(own).collect()
}

#[test]
fn a_mirror_over_several_connections_is_exact_and_outlives_the_loss_of_any() {
    let stand = Stand::new();
    plant(&stand.source(), 1);
    let mirror = stand.mirror(&["standby"], &["--connections=4", "--reconcile-interval=never"]);
    let target = stand.target("standby");
    assert_settles(&stand, "standby", "over four connections", &mirror);
    assert_eq!(connections(&mirror).len(), 4);
    assert_eq!(leftovers(&target), [""; 0]);
    for lost in 0..4 {
        let before = connections(&mirror);
        plant(&stand.source(), lost + 2);
        send(before[lost as usize].pid, Signal::KILL);
        assert_settles(&stand, "standby", "over four connections", &mirror);
        let back = || {
            let now = connections(&mirror);
            now.len() == 4 && now.iter().all(|one| before.iter().all(|other| one.pid != other.pid))
        };
        eventually("four connections are back", || {
            // One that was idle is missed when something is sent.
            fs::write(stand.source().join("small"), lost.to_string()).unwrap();
            back()
        });
    }
    let mut churn = Churn::new(5, &stand.source());
    churn.run(300);
    churn.close();
    assert_settles(&stand, "standby", "over four connections", &mirror);
    assert_eq!(leftovers(&target), [""; 0]);
    assert_eq!(mirror.terminate().code(), 0);
}

#[test]
fn a_pass_over_several_connections_leaves_nothing_behind_also_under_a_root_that_is_not_the_senders_to_choose()
{
    let stand = Stand::new();
    plant(&stand.source(), 1);
    let target = stand.target("standby");
    fs::create_dir(&target).unwrap();
    let agent = format!("--agent={} --root {}", agent_command(), target.display());
    let source = format!("{}/", stand.source().display());
    for given in ["standby", "elsewhere"] {
        let given = stand.sshd.target(&stand.target(given));
        let arguments = ["sync", "-a", "-e", &stand.ssh_command, &agent, "--connections=3", &source, &given];
        let ended = stand.environment.run(arguments);
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
        assert!(differences(&stand.source(), &target).is_empty());
        assert_eq!(leftovers(&target), [""; 0]);
        assert!(!target.join(".speil").exists());
        fs::remove_file(target.join("large")).unwrap();
    }
}

#[test]
fn where_no_further_connection_comes_one_carries_all_and_it_is_said() {
    let stand = Stand::new();
    plant(&stand.source(), 1);
    // The agent is there once; whoever comes later finds none.
    let gone = stand.path("gone");
    let agent = stand.path("agent");
    let script = format!(
        "#!/bin/sh\nmkdir {gone:?} 2>/dev/null || {{ echo 'no more of me' >&2; exit 9; }}\nexec {}\n",
        agent_command()
    );
    fs::write(&agent, script).unwrap();
    fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (source, target) = (format!("{}/", stand.source().display()), stand.target("standby"));
    let (agent, to) = (format!("--agent={}", agent.display()), target.display().to_string());
    let ended = stand.environment.run(["sync", "-a", &agent, "--connections=2", &source, &to]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let said = ["fewer connections than the 2 wanted", "no more of me"];
    assert!(said.iter().all(|text| ended.stderr.contains(text)), "{:?}", ended.stderr);
    assert!(differences(&stand.source(), &target).is_empty());
}
