//! The receiver under attack by its sender, and the sender by its receiver.
//!
//! `SPEIL_ATTACK_SECONDS` says how long the race of symlinks lasts; one second without it.

mod agent;
pub mod client;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use speil::protocol::{Confinement, Expect, FRAME_LEN_MAX, ScanOptions, StateMode, ToReceiver};
use speil::tree::{Kind, RelPath};

use client::{Client, attrs, feed, hello, path, put};

/// A root to attack, and a directory beside it that must stay as it is.
struct Field {
    dir: tempfile::TempDir,
}

impl Field {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir_all(dir.path().join("outside/d")).unwrap();
        fs::write(dir.path().join("outside/victim"), "mine").unwrap();
        fs::write(dir.path().join("outside/d/f"), "mine").unwrap();
        Self { dir }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }

    fn outside(&self) -> std::path::PathBuf {
        self.dir.path().join("outside")
    }

    /// What stands outside, with everything that an attack could change.
    fn snapshot(&self) -> Vec<(String, u32, u32, i64, i64, Vec<u8>)> {
        let mut found = Vec::new();
        for name in ["", "victim", "d", "d/f"] {
            let path = self.outside().join(name);
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            let (mtime, ctime) = (meta.mtime_nsec() + meta.mtime(), meta.ctime_nsec() + meta.ctime());
            found.push((name.to_owned(), meta.mode(), meta.uid(), mtime, ctime, content));
        }
        let mut names: Vec<String> = fs::read_dir(self.outside())
            .unwrap()
            .chain(fs::read_dir(self.outside().join("d")).unwrap())
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        found.push((names.join(" "), 0, 0, 0, 0, Vec::new()));
        found
    }
}

/// A frame as the writer makes it, with a length that may lie.
fn frame(stated: u32, payload: &[u8]) -> Vec<u8> {
    [&stated.to_le_bytes()[..], payload].concat()
}

/// A message as it travels.
fn bytes_of(message: &ToReceiver<'_>) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap()
}

fn framed(message: &ToReceiver<'_>) -> Vec<u8> {
    let bytes = bytes_of(message);
    frame(u32::try_from(bytes.len()).unwrap(), &bytes)
}

#[test]
fn a_frame_that_lies_about_a_length_ends_the_session_and_nothing_else() {
    let field = Field::new();
    let before = field.snapshot();
    let greeting = framed(&ToReceiver::Hello(Box::new(hello())));
    let longest = u32::try_from(FRAME_LEN_MAX).unwrap();
    let mut rounds = 0;
    // The frame's own length, with each way of packing.
    for packing in [0, 1 << 31, 1 << 30, 3 << 29, 1 << 29, 1 << 24, 0xff00_0000] {
        for len in [0, 1, 4, longest, longest + 1, 0xff_ffff] {
            let lie = frame(packing | len, &[0xff; 64]);
            feed(&field.root(), &lie).expect("no signal ended the agent");
            feed(&field.root(), &[&greeting[..], &lie].concat()).expect("no signal ended the agent");
            rounds += 2;
        }
    }
    // What a packed frame claims to unpack to, and the length of its head.
    for raw in [0, 1, longest, longest + 1, u32::MAX] {
        for head in [0, 1, 60, 64, u32::MAX] {
            let inside = [&raw.to_le_bytes()[..], &u32::to_le_bytes(head), &[0xff; 60]].concat();
            for packing in [1_u32 << 31, 1 << 30, 3 << 29] {
                let lie = [&(packing | 64).to_le_bytes()[..], &inside].concat();
                feed(&field.root(), &[&greeting[..], &lie].concat()).expect("no signal ended the agent");
                rounds += 1;
            }
        }
    }
    assert!(rounds > 150, "{rounds}");
    assert_eq!(field.snapshot(), before);
}

#[test]
fn every_length_inside_a_message_may_lie() {
    let field = Field::new();
    let before = field.snapshot();
    let greeting = framed(&ToReceiver::Hello(Box::new(hello())));
    let message = bytes_of(&put(path("dir/name"), 0o644, b"content"));
    // postcard writes lengths as varints: each byte is one at some point of the message.
    let lies: [&[u8]; 4] = [&[0], &[1], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10]];
    let mut stream = Vec::new();
    for at in 0..message.len() {
        for lie in lies {
            let bytes = [&message[..at], lie, &message[at + 1..]].concat();
            stream.push([&greeting[..], &frame(u32::try_from(bytes.len()).unwrap(), &bytes)].concat());
        }
    }
    // A session ends at the first that does not decode: a sample takes its whole way alone.
    for bytes in stream.iter().step_by(7) {
        feed(&field.root(), bytes).expect("no signal ended the agent");
    }
    assert_eq!(field.snapshot(), before);
}

#[test]
fn names_that_lead_elsewhere_do_not_decode() {
    let field = Field::new();
    let before = field.snapshot();
    let greeting = framed(&ToReceiver::Hello(Box::new(hello())));
    let good = bytes_of(&ToReceiver::Mkdir { path: path("ab/cd/e"), attrs: attrs(Kind::Dir, 0o755) });
    let place = good.windows(7).position(|bytes| bytes == b"ab/cd/e").unwrap();
    for bad in
        [b"../cd/e", b"/etc/ab", b"ab/../e", b"ab//cd/", b"ab/./ce", b"ab/c/..", b"ab\0cd/e", b"./ab/cd"]
    {
        let mut bytes = good.clone();
        bytes[place..place + 7].copy_from_slice(bad);
        let stream = [&greeting[..], &frame(u32::try_from(bytes.len()).unwrap(), &bytes)].concat();
        let code = feed(&field.root(), &stream).expect("no signal ended the agent");
        assert_ne!(code, 0, "{:?} was taken", String::from_utf8_lossy(bad));
    }
    let made: Vec<_> = fs::read_dir(field.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, [".speil"]);
    assert_eq!(field.snapshot(), before);
}

#[test]
fn a_million_entries_a_deep_path_and_a_bomb_cost_bounded_memory() {
    let field = Field::new();
    let mut client = Client::open(&field.root(), &[]);
    // Two bytes an entry: as many as a frame holds.
    let many: Vec<RelPath> = vec![path("a"); 500_000];
    client.send(&ToReceiver::Confirm(many)).unwrap();
    let deep = path(&["d"; 500_000].join("/"));
    client.send(&put(deep.clone(), 0o644, b"x")).unwrap();
    client.send(&ToReceiver::Delete { path: deep, expect: Expect::Any, keep_strangers: false }).unwrap();
    let heard = client.settle(1);
    assert_eq!(heard.undone.len() + heard.problems.len(), 1, "{:?}", heard.others);
    // Directories within each other, as far as it goes, and a walk over them.
    let mut here = RelPath::root();
    for _ in 0..6000 {
        here = here.join(b"d");
        client.send(&ToReceiver::Mkdir { path: here.clone(), attrs: attrs(Kind::Dir, 0o755) }).unwrap();
    }
    let options = ScanOptions { checksum: true, recursive: true };
    client.send(&ToReceiver::Scan { pass: 1, top: RelPath::root(), options }).unwrap();
    crate::support::command::eventually("the walk answers", || {
        client.heard().others.iter().any(|text| text.starts_with("Scanned"))
    });
    let peak = peak_bytes(client.agent.id());
    assert!(peak < 400 << 20, "the agent held {peak} bytes");
    assert_eq!(client.end(), 0);
    let gone = std::process::Command::new("rm").arg("-rf").arg(field.root().join("d")).status();
    assert!(gone.unwrap().success());
}

/// The most memory that a process has held.
fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn the_agents_own_files_are_nobody_elses() {
    let field = Field::new();
    let mut client = Client::open(&field.root(), &[]);
    let state = field.root().join(".speil");
    let memory = fs::read(state.join("memory")).unwrap();
    let attacks = [
        put(path(".speil/refuse"), 0o644, b"go away"),
        put(path(".speil/memory"), 0o644, b"{}"),
        put(path("x/.speil-0123456789abcdef"), 0o644, b"x"),
        ToReceiver::Mkdir { path: path(".speil/new"), attrs: attrs(Kind::Dir, 0o777) },
        ToReceiver::Mkdir { path: path(".speil"), attrs: attrs(Kind::Dir, 0o777) },
        ToReceiver::Node { path: path(".speil/strangers"), attrs: attrs(Kind::Fifo, 0o777) },
        ToReceiver::Attrs { path: path(".speil"), attrs: attrs(Kind::Dir, 0o777), expect: Expect::Any },
        ToReceiver::Link { path: path("stolen"), existing: path(".speil/memory"), expect: Expect::Any },
        ToReceiver::Rename { from: path(".speil"), to: path("moved"), expect: Expect::Any },
        ToReceiver::Rename { from: path("x"), to: path(".speil/session"), expect: Expect::Any },
        ToReceiver::Delete { path: path(".speil/memory"), expect: Expect::Any, keep_strangers: false },
        ToReceiver::Open { stream: 1, path: path(".speil/big"), size: 1, basis: false },
    ];
    for attack in &attacks {
        client.send(attack).unwrap();
    }
    client.send(&ToReceiver::Sign { stream: 2, path: path(".speil/memory") }).unwrap();
    client.send(&ToReceiver::DirTime { path: path(".speil"), mtime: Default::default() }).unwrap();
    let heard = client.settle(1);
    assert_eq!(heard.problems.len(), attacks.len(), "{heard:?}");
    assert!(heard.problems.iter().all(|(_, errno)| *errno == libc::EPERM), "{heard:?}");
    assert_eq!(heard.stopped, [1, 2]);
    assert_eq!(client.end(), 0);
    assert_eq!(fs::read(state.join("memory")).unwrap(), memory);
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!field.root().join("stolen").exists() && !state.join("refuse").exists());
}

#[test]
fn files_in_flight_are_limited_by_the_receiver() {
    let field = Field::new();
    let mut client = Client::open(&field.root(), &[]);
    let limit = client.greeting.limits.streams;
    for stream in 0..4 * limit {
        let open = ToReceiver::Open { stream, path: path(&format!("f{stream}")), size: 1, basis: false };
        client.send(&open).unwrap();
    }
    let heard = client.settle(1);
    assert_eq!(heard.stopped.len(), 2 * limit as usize, "beyond twice what was told, all are stopped");
    let open = fs::read_dir(format!("/proc/{}/fd", client.agent.id())).unwrap().count();
    assert!(open < 6 * limit as usize, "{open} descriptors");
    assert_eq!(client.end(), 0);
    let left = fs::read_dir(field.root()).unwrap().count();
    assert_eq!(left, 1, "temporary files are left");
}

#[test]
fn a_standby_makes_what_its_own_options_allow_and_keeps_its_floor() {
    let field = Field::new();
    let mut client =
        Client::open(&field.root(), &["--no-devices", "--no-setid", "--no-chown", "--min-free=1P"]);
    assert_eq!(client.greeting.free_bytes, 0, "nothing above the floor");
    let profile = client.greeting.profile;
    assert!(!profile.devices && !profile.set_id && !profile.owner && !profile.privileged_xattrs);
    // A hostile sender sends all the same.
    let mut device = attrs(Kind::CharDevice, 0o666);
    device.meta.rdev = rustix::fs::makedev(1, 8);
    client.send(&ToReceiver::Node { path: path("mem"), attrs: device }).unwrap();
    let mut dir = attrs(Kind::Dir, 0o7777);
    (dir.meta.uid, dir.meta.gid) = (12_345, 12_345);
    client.send(&ToReceiver::Mkdir { path: path("dir"), attrs: dir }).unwrap();
    client.send(&put(path("file"), 0o6755, b"#!/bin/sh")).unwrap();
    client.send(&ToReceiver::Open { stream: 1, path: path("big"), size: 1 << 20, basis: false }).unwrap();
    let heard = client.settle(1);
    assert_eq!(client.end(), 0);
    let errnos: Vec<i32> = heard.problems.iter().map(|(_, errno)| *errno).collect();
    assert_eq!(errnos, [libc::EPERM, libc::ENOSPC, libc::ENOSPC], "{heard:?}");
    let made = fs::metadata(field.root().join("dir")).unwrap();
    assert_eq!(made.mode() & 0o7777, 0o777);
    assert_eq!(made.uid(), rustix::process::geteuid().as_raw());
    assert!(!field.root().join("mem").exists() && !field.root().join("file").exists());

    let mut client = Client::open(&field.root(), &["--no-setid"]);
    fs::write(field.root().join("tool"), "old").unwrap();
    fs::set_permissions(field.root().join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    client.send(&put(path("file"), 0o6755, b"#!/bin/sh")).unwrap();
    client.send(&put(path("tool"), 0o4755, b"#!/bin/sh")).unwrap();
    client.settle(1);
    assert_eq!(client.end(), 0);
    for name in ["file", "tool"] {
        assert_eq!(fs::metadata(field.root().join(name)).unwrap().mode() & 0o7777, 0o755, "{name}");
    }
}

#[test]
fn an_agent_listens_nowhere_starts_nothing_and_says_how_far_it_is_confined() {
    let field = Field::new();
    let mut client = Client::open(&field.root(), &[]);
    client.send(&put(path("file"), 0o644, b"x")).unwrap();
    client.settle(1);
    let pid = client.agent.id();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let to = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!to.to_string_lossy().starts_with("socket:"), "{to:?}");
    }
    let main = format!("/proc/{pid}/task/{pid}");
    assert_eq!(fs::read_to_string(format!("{main}/children")).unwrap().trim(), "");
    assert!(fs::read_to_string(format!("{main}/status")).unwrap().contains("NoNewPrivs:\t1"));
    // The test host may have a kernel without it; one that has it must show that it bites.
    assert!(matches!(client.greeting.confinement, Confinement::Landlock | Confinement::Missing));
    assert_eq!(client.end(), 0);
    let client = Client::open(&field.root(), &["--no-confine"]);
    assert_eq!(client.greeting.confinement, Confinement::Off);
    assert_eq!(client.end(), 0);
}

#[test]
fn symlinks_swapped_in_a_loop_lead_nowhere() {
    let seconds = std::env::var("SPEIL_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    // Landlock would hide what the code itself lets through.
    for options in [&["--no-confine"][..], &[]] {
        let field = Field::new();
        let before = field.snapshot();
        let (root, outside) = (field.root(), field.outside());
        fs::create_dir_all(root.join("real/d")).unwrap();
        let over = AtomicBool::new(false);
        let (rounds, swaps) = std::thread::scope(|scope| {
            let swapper = scope.spawn(|| swap(&root, &outside, &over));
            let rounds = attack(&root, options, Duration::from_secs(seconds));
            over.store(true, Ordering::Release);
            (rounds, swapper.join().unwrap())
        });
        assert_eq!(field.snapshot(), before, "something outside the root was touched");
        assert!(rounds > 10 && swaps > 100, "{rounds} rounds, {swaps} swaps");
        eprintln!(
            "symlink race {options:?}: {rounds} rounds of 12 operations, {swaps} swaps, nothing touched"
        );
    }
}

/// Makes `dir` in turn a directory and a symlink to the outside, as fast as it goes.
fn swap(root: &Path, outside: &Path, over: &AtomicBool) -> u64 {
    let held = fs::File::open(root).unwrap();
    symlink(outside, root.join("dir")).unwrap();
    let mut swaps = 0;
    while !over.load(Ordering::Acquire) {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        // The attacked agent may have moved one of them away: then it is made again.
        match rustix::fs::renameat_with(held.as_fd(), "dir", held.as_fd(), "real", flags) {
            Ok(()) => swaps += 1,
            Err(_) => {
                let _ = fs::create_dir_all(root.join("real/d"));
                let _ = symlink(outside, root.join("dir"));
            }
        }
    }
    swaps
}

/// Sends what would do harm through a symlink, round after round.
fn attack(root: &Path, options: &[&str], span: Duration) -> u64 {
    let mut client = Client::open(root, options);
    let began = Instant::now();
    let mut round = 0;
    while began.elapsed() < span {
        round += 1;
        let stream = u32::try_from(round % 1_000_000).unwrap();
        let content = round.to_string();
        let within = |name: &str| path(&format!("dir/{name}"));
        let any = Expect::Any;
        for message in [
            put(within("victim"), 0o666, content.as_bytes()),
            put(within("d/f"), 0o666, content.as_bytes()),
            ToReceiver::Mkdir { path: within("made"), attrs: attrs(Kind::Dir, 0o777) },
            ToReceiver::Mkdir { path: path("dir/d"), attrs: attrs(Kind::Dir, 0o777) },
            ToReceiver::Attrs { path: within("victim"), attrs: attrs(Kind::File, 0o6777), expect: any },
            ToReceiver::Attrs { path: within("d"), attrs: attrs(Kind::Dir, 0o777), expect: any },
            ToReceiver::Link { path: path("link"), existing: within("victim"), expect: any },
            ToReceiver::Rename { from: within("d/f"), to: path("taken"), expect: any },
            ToReceiver::Delete { path: within("d/f"), expect: any, keep_strangers: false },
            ToReceiver::Delete { path: within("victim"), expect: any, keep_strangers: true },
            ToReceiver::DirTime { path: path("dir/d"), mtime: Default::default() },
            ToReceiver::Sign { stream, path: within("victim") },
            ToReceiver::Abandon { stream },
        ] {
            client.send(&message).unwrap();
        }
        if round % 50 == 0 {
            client.settle(round);
        }
    }
    client.settle(u64::MAX);
    assert_eq!(client.end(), 0);
    round
}

#[test]
fn a_second_hello_and_changes_in_a_dry_run_end_the_session() {
    let field = Field::new();
    let mut client = Client::open(&field.root(), &[]);
    client.send(&ToReceiver::Hello(Box::new(hello()))).unwrap();
    assert_ne!(client.end(), 0);
    let dry = speil::protocol::Hello { dry_run: true, state: StateMode::Traceless, ..hello() };
    let mut client = Client::greet(client::agent(&field.root(), &[]), dry).unwrap();
    client.send(&put(path("file"), 0o644, b"x")).unwrap();
    assert_ne!(client.end(), 0);
    assert!(!field.root().join("file").exists());
}

/// How many temporary entries stand in a root.
fn temporary(root: &Path) -> usize {
    let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".speil-")).count()
}

#[test]
fn connections_that_are_none_end_the_session_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(dir.path().join(".speil-outside"), "").unwrap();
    let mut client = Client::open(&root, &[]);
    let _ = client.send(&ToReceiver::Bundled);
    assert!(client.end() > 0, "there are no places");
    // However many are asked for, and however often.
    let mut client = Client::open(&root, &[]);
    for _ in 0..20 {
        client.send(&ToReceiver::Widen { connections: u8::MAX }).unwrap();
    }
    client.settle(1);
    assert_eq!(temporary(&root), 15);
    // Nobody has come; and no piece has so many bytes.
    let _ = client.send(&ToReceiver::Bundled);
    let _ = client.send(&ToReceiver::Mkdir { path: path("made"), attrs: attrs(Kind::Dir, 0o755) });
    assert!(client.end() > 0);
    assert_eq!(temporary(&root), 0);
    assert!(!root.join("made").exists());
    for place in [&b".speil-outside"[..], b"../.speil-outside", b"/dev/null", b"", &[b'.'; 5000]] {
        let join = ToReceiver::Join { root: b"/".to_vec(), place: place.to_vec() };
        assert!(feed(&root, &framed(&join)).is_some_and(|status| status > 0), "{place:?}");
    }
}

#[test]
fn content_is_taken_from_regular_files_of_the_tree_alone() {
    let field = Field::new();
    let before = field.snapshot();
    let root = field.root();
    let mut client = Client::open(&root, &[]);
    client.send(&put(path("first"), 0o644, b"content")).unwrap();
    client.settle(1);
    symlink(field.outside(), root.join("out")).unwrap();
    symlink(field.outside().join("victim"), root.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from(0o600),
        0,
    )
    .unwrap();
    let like = |name: &str, of: &str, content: &[u8]| {
        let mut attrs = attrs(Kind::File, 0o644);
        attrs.meta.size = content.len() as u64;
        let hash = *blake3::hash(content).as_bytes();
        ToReceiver::Duplicate { path: path(name), like: path(of), attrs, hash, provisional: false }
    };
    client.send(&like("second", "first", b"content")).unwrap();
    for (at, of) in ["none", "none/first", "link", "out/victim", "fifo", "first"].iter().enumerate() {
        client.send(&like(&format!("bad{at}"), of, b"mine")).unwrap();
    }
    client.send(&like("own", ".speil/memory", b"mine")).unwrap();
    client.send(&like(".speil/memory", "first", b"content")).unwrap();
    let heard = client.settle(2);
    assert_eq!(fs::read(root.join("second")).unwrap(), b"content");
    assert_eq!(heard.undone.len(), 6, "{heard:?}");
    assert_eq!(heard.problems.len(), 2, "{heard:?}");
    for at in 0..6 {
        assert!(!root.join(format!("bad{at}")).exists(), "{at}");
    }
    assert_eq!(client.end(), 0);
    assert_eq!(field.snapshot(), before);
}
