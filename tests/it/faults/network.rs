//! Networks that are lost, peers that are silent, and what old connections still carry.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::scene::{LASTING, Watch, exhaustive, lasting, write};
use crate::support::command::{Background, SPEIL, agent_command, eventually, holds_within};
use crate::support::faults::is_root;
use crate::support::process::descendants;
use crate::support::proxy::{Link, Proxy};
use crate::support::sshd::Sshd;
use crate::support::stand::{Stand, assert_settles, differences, free_port, scratch};

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("run ip: install iproute2");
    assert!(output.status.success(), "ip {words}: {output:?}");
}

/// A network of its own with one wire to this host; both go with their guard.
struct Network {
    name: String,
    wire: String,
    number: u32,
}

impl Network {
    fn new() -> Self {
        // Of this process alone: other runs may be at work beside it.
        let number = std::process::id() % 16_000;
        let (name, wire) = (format!("speil{}", std::process::id()), format!("speil{number}"));
        ip(&format!("netns add {name}"));
        let network = Self { name, wire, number };
        let (name, wire) = (&network.name, &network.wire);
        ip(&format!("link add {wire} type veth peer name inside netns {name}"));
        ip(&format!("addr add {}/30 dev {wire}", network.address(1)));
        ip(&format!("link set {wire} up"));
        ip(&format!("-n {name} addr add {}/30 dev inside", network.address(2)));
        ip(&format!("-n {name} link set inside up"));
        ip(&format!("-n {name} link set lo up"));
        network
    }

    /// One of the two addresses on the wire.
    fn address(&self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + self.number * 4 + host)
    }

    fn cut(&self) {
        ip(&format!("link set {} down", self.wire));
    }

    fn mend(&self) {
        ip(&format!("link set {} up", self.wire));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.wire]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[test]
fn a_network_that_is_gone_for_seconds_or_for_longer_than_every_timeout_costs_nothing_but_time() {
    if !is_root() {
        return;
    }
    let network = Network::new();
    let (host, port) = (network.address(1), free_port());
    let sshd = Sshd::start_with(&format!("ListenAddress {host}:{port}"));
    let stand = Stand::with(&scratch(), sshd);
    let (source, far, near) = (stand.source(), stand.target("far"), stand.target("near"));
    let newest = Arc::new(AtomicU32::new(1));
    write(&source, 1);
    let login = stand.sshd.login().replace("127.0.0.1", &host.to_string());
    let control = format!("--control={}", stand.control().display());
    let carrier = stand.sshd.ssh_command_through((host, port).into());
    let mut command = stand.environment.command("ip");
    command.args(["netns", "exec", &network.name, SPEIL, "mirror", "--no-delete-guard"]);
    command.args(["--reconcile-interval=never", "--timeout=3", &control, "-e"]);
    command.arg(format!("{carrier} -o ConnectTimeout=2 -o ServerAliveInterval=1 -o ServerAliveCountMax=2"));
    command.arg(format!("--agent={}", agent_command()));
    command.arg(source.join("")).arg(format!("{login}:{}", far.display())).arg(&near);
    let mirror = Background::spawn(command);
    let lives = || mirror.stdout().iter().filter(|line| line.ends_with(": live")).count();
    eventually("both are live", || lives() == 2);
    let watch = Watch::of(&far, &newest);
    let next = || {
        let version = newest.fetch_add(1, Ordering::AcqRel) + 1;
        write(&source, version);
    };
    // For a moment: the connection outlives it.
    network.cut();
    next();
    eventually("the other target", || differences(&source, &near).is_empty());
    assert!(!differences(&source, &far).is_empty(), "the wire is cut");
    network.mend();
    assert_settles(&stand, "far", "after a moment", &mirror);
    // For longer than every timeout: it is told, and the other target goes on.
    let told = mirror.stderr().len();
    network.cut();
    next();
    eventually("the loss is told", || mirror.stderr().len() > told);
    next();
    eventually("the other target", || differences(&source, &near).is_empty());
    assert!(!differences(&source, &far).is_empty(), "the wire is cut");
    let status = stand.environment.run(["status", &control]).stdout;
    assert!(status.contains("down"), "{status}");
    network.mend();
    assert_settles(&stand, "far", "after the network was gone", &mirror);
    watch.end();
    mirror.terminate();
}

#[test]
fn a_peer_that_accepts_and_never_answers_is_told_given_up_and_keeps_nobody() {
    let stand = Stand::new();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = stand.target("near");
    write(&stand.source(), 1);
    let carrier = stand.sshd.ssh_command_through(silent.local_addr().unwrap());
    let control = format!("--control={}", stand.control().display());
    let mirror = stand.environment.spawn([
        "mirror",
        "--no-delete-guard",
        "--timeout=3",
        &control,
        "-e",
        &carrier,
        &format!("--agent={}", agent_command()),
        &format!("{}/", stand.source().display()),
        &stand.sshd.target(&stand.target("far")),
        &near.display().to_string(),
    ]);
    mirror.wait_for_line("near: live");
    let ssh = || descendants(mirror.pid()).into_iter().filter(|p| p.name == "ssh").map(|p| p.pid).collect();
    let first: Vec<u32> = ssh();
    // The deadline ends it, and the next attempt follows.
    mirror.wait_for_error_line("127.0.0.1");
    eventually("another attempt", || {
        let now: Vec<u32> = ssh();
        !now.is_empty() && now.iter().all(|pid| !first.contains(pid))
    });
    assert!(ssh().len() <= 1, "attempts pile up");
    write(&stand.source(), 2);
    assert_settles(&stand, "near", "beside a silent peer", &mirror);
    let status = stand.environment.run(["status", &control]).stdout;
    assert!(status.contains("far") && status.contains("no answer"), "{status}");
    mirror.terminate();
}

/// Returns which version of a file stands on the target.
fn version_of(target: &Path) -> u32 {
    let (name, lines) = LASTING[0];
    let bytes = fs::read(target.join(name)).unwrap();
    (0..1000).find(|version| bytes == lasting(name, lines, *version)).expect("a whole version")
}

#[test]
fn what_a_dropped_connection_still_carries_overwrites_nothing_newer() {
    let mut stand = Stand::new();
    let proxy = Proxy::start(stand.sshd.address(), Link::default());
    let (straight, detour) = (stand.ssh_command.clone(), stand.sshd.ssh_command_through(proxy.address()));
    let (source, target) = (stand.source(), stand.target("standby"));
    let mut version = 1;
    write(&source, version);
    for round in 0..if exhaustive() { 50 } else { 3 } {
        stand.ssh_command.clone_from(&detour);
        let old = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        let in_flight = || {
            let control = format!("--control={}", stand.control().display());
            let status = stand.environment.run(["status", "--json", &control]).stdout;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            status["syncs"][0]["targets"][0]["in_flight"].as_u64().unwrap()
        };
        proxy.freeze();
        version += 1;
        write(&source, version);
        let stale = version;
        // On its way: out of the daemon, and not on the target.
        eventually("the change is sent", || in_flight() > 0);
        old.signal(Signal::KILL);
        old.wait();
        version += 1;
        write(&source, version);
        stand.ssh_command.clone_from(&straight);
        let new = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        assert_settles(&stand, "standby", "straight", &new);
        proxy.thaw();
        // Everything that was kept back has arrived, or nobody is there to take it.
        eventually("one agent is left", || {
            descendants(stand.sshd.pid()).iter().filter(|p| p.name == "speil").count() == 1
        });
        let later = holds_within(Duration::from_millis(300), || version_of(&target) != version);
        assert!(!later, "round {round}: version {stale} came back after {version}");
        assert!(differences(&source, &target).is_empty());
        new.terminate();
    }
}
