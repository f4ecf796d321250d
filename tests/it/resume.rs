//! A transfer that is cut goes on from what the target has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::command::{Background, agent_command, eventually, holds_within};
use crate::support::proxy::{Link, Proxy};
use crate::support::rng::Rng;
use crate::support::stand::Stand;

const MIB: u64 = 1 << 20;
/// Bytes of the file.
const LEN: u64 = 64 * MIB;
/// Bytes that a cut may cost: what was on its way, and the last chunk.
const LOST_MAX: u64 = 10 * MIB;

/// A source with one large file of noise, and a link to the target that can be cut.
fn scene() -> (Stand, Proxy) {
    let mut stand = Stand::new();
    fs::write(stand.source().join("large"), noise(1, LEN)).unwrap();
    // Slow enough to be cut where it is wanted.
    let link = Link { round_trip: Duration::ZERO, rate: Some(32 * MIB) };
    let proxy = Proxy::start(stand.sshd.address(), link);
    stand.ssh_command = stand.sshd.ssh_command_through(proxy.address());
    (stand, proxy)
}

fn noise(seed: u64, len: u64) -> Vec<u8> {
    Rng::new(seed).bytes(usize::try_from(len).unwrap())
}

fn large(stand: &Stand) -> PathBuf {
    stand.target("standby").join("large")
}

/// Starts a mirror that need not come to be live.
fn start(stand: &Stand) -> Background {
    let source = format!("{}/", stand.source().display());
    let target = stand.sshd.target(&stand.target("standby"));
    let (agent, control) =
        (format!("--agent={}", agent_command()), format!("--control={}", stand.control().display()));
    let options = ["--compress=never", "--reconcile-interval=never"];
    let fixed = ["mirror", "-e", &stand.ssh_command, &agent, &control];
    stand.environment.spawn([&fixed[..], &options, &[&source, &target]].concat())
}

/// Cuts the link as soon as so many more bytes have passed.
fn cut_after(proxy: &Proxy, bytes: u64) {
    let until = proxy.sent_bytes() + bytes;
    eventually("so much has passed", || proxy.sent_bytes() >= until);
    assert!(proxy.cut() > 0);
}

fn assert_arrives(stand: &Stand, what: &str) {
    let source = fs::read(stand.source().join("large")).unwrap();
    let arrived = holds_within(Duration::from_secs(60), || {
        fs::metadata(large(stand)).is_ok_and(|meta| meta.len() == source.len() as u64)
            && fs::read(large(stand)).is_ok_and(|bytes| bytes == source)
    });
    assert!(arrived, "{what}: the file is not there");
}

/// The one file that is kept for the next session.
fn partial(target: &Path) -> PathBuf {
    let mut all = fs::read_dir(target.join(".speil/partial")).unwrap();
    let one = all.next().unwrap().unwrap().path();
    assert!(all.next().is_none());
    one
}

#[test]
fn a_mirror_that_is_cut_again_and_again_sends_no_byte_twice_but_what_was_on_its_way() {
    let (stand, proxy) = scene();
    let mirror = start(&stand);
    let cuts = [10, 14, 20, 10];
    for bytes in cuts {
        cut_after(&proxy, bytes * MIB);
        assert!(!large(&stand).exists(), "nothing is installed before it is whole");
    }
    assert_arrives(&stand, "after the cuts");
    let sent = proxy.sent_bytes();
    assert!(sent >= LEN, "{sent}");
    assert!(sent < LEN + cuts.len() as u64 * LOST_MAX, "{} MiB for {} MiB", sent / MIB, LEN / MIB);
    eventually("nothing of it is left", || {
        fs::read_dir(stand.target("standby").join(".speil/partial")).is_ok_and(|left| left.count() == 0)
    });
    mirror.terminate();
}

#[test]
fn what_is_left_of_a_delta_after_a_cut_is_a_delta() {
    let (stand, proxy) = scene();
    let old = fs::read(stand.source().join("large")).unwrap();
    fs::create_dir(stand.target("standby")).unwrap();
    fs::write(large(&stand), &old).unwrap();
    // A quarter is new at the beginning, an eighth in the end.
    let mut new = old;
    new[..16 << 20].copy_from_slice(&noise(2, 16 * MIB));
    new[56 << 20..].copy_from_slice(&noise(3, 8 * MIB));
    fs::write(stand.source().join("large"), &new).unwrap();
    let mirror = start(&stand);
    cut_after(&proxy, 15 * MIB);
    assert_arrives(&stand, "after the cut");
    let sent = proxy.sent_bytes();
    assert!(sent < 24 * MIB + LOST_MAX, "{} MiB for 24 MiB", sent / MIB);
    mirror.terminate();
}

#[test]
fn a_daemon_that_starts_again_goes_on_and_a_rotten_prefix_or_a_changed_source_is_never_installed() {
    let (stand, proxy) = scene();
    // Killed, and the connection with it: nobody could say goodbye.
    let mirror = start(&stand);
    eventually("some of it has passed", || proxy.sent_bytes() >= 24 * MIB);
    drop(mirror);
    eventually("the agent has left", || stand.sshd.connections() == 0);
    let kept = partial(&stand.target("standby"));
    assert!(fs::metadata(&kept).unwrap().len() >= 16 * MIB);
    // Bytes of it rot: what is behind them comes again.
    let file = fs::OpenOptions::new().write(true).open(&kept).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"rotten", 10 * MIB + 5).unwrap();
    drop(file);
    let before = proxy.sent_bytes();
    let mirror = start(&stand);
    assert_arrives(&stand, "after the rot");
    let sent = proxy.sent_bytes() - before;
    assert!((53 * MIB..54 * MIB + LOST_MAX).contains(&sent), "{} MiB", sent / MIB);
    mirror.terminate();
    // Another version meanwhile, equal in the first half.
    fs::remove_file(large(&stand)).unwrap();
    let mirror = start(&stand);
    cut_after(&proxy, 48 * MIB);
    drop(mirror);
    eventually("the agent has left", || stand.sshd.connections() == 0);
    let mut new = fs::read(stand.source().join("large")).unwrap();
    new.truncate(60 << 20);
    new[32 << 20] ^= 1;
    fs::write(stand.source().join("large"), &new).unwrap();
    let before = proxy.sent_bytes();
    let mirror = start(&stand);
    assert_arrives(&stand, "after the change");
    let sent = proxy.sent_bytes() - before;
    assert!((28 * MIB..28 * MIB + LOST_MAX).contains(&sent), "{} MiB", sent / MIB);
    mirror.terminate();
}

#[test]
fn a_single_pass_keeps_what_has_arrived_if_it_is_asked_to_and_leaves_nothing_in_the_end() {
    let (stand, proxy) = scene();
    let source = format!("{}/", stand.source().display());
    let target = stand.sshd.target(&stand.target("standby"));
    let agent = format!("--agent={}", agent_command());
    let pass = |options: &[&str]| {
        let fixed = ["sync", "-a", "-e", &stand.ssh_command, &agent];
        stand.environment.spawn([&fixed[..], options, &[&source, &target]].concat())
    };
    let cut = pass(&[]);
    cut_after(&proxy, 20 * MIB);
    assert_ne!(cut.wait().code(), 0);
    eventually("the agent has left", || stand.sshd.connections() == 0);
    assert!(!stand.target("standby").join(".speil").exists(), "nothing is kept unasked");
    for bytes in [20, 20] {
        let cut = pass(&["--partial"]);
        cut_after(&proxy, bytes * MIB);
        assert_ne!(cut.wait().code(), 0);
        eventually("the agent has left", || stand.sshd.connections() == 0);
    }
    assert!(partial(&stand.target("standby")).exists());
    let before = proxy.sent_bytes();
    pass(&["--partial"]).wait().succeeded();
    let sent = proxy.sent_bytes() - before;
    assert!(sent < 24 * MIB + 2 * LOST_MAX, "{} MiB", sent / MIB);
    assert_arrives(&stand, "after two cuts");
    let left: Vec<_> =
        fs::read_dir(stand.target("standby")).unwrap().flatten().map(|one| one.path()).collect();
    assert_eq!(left, [large(&stand)]);
}
