//! Files that are written while they are read: what lands whole is a version that existed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::command::holds_within;
use crate::support::rng::Rng;
use crate::support::stand::{Stand, assert_settles};

/// Rounds of each kind: a few in every run, a thousand with `SPEIL_ROUNDS=1000`.
fn rounds(few: usize) -> usize {
    std::env::var("SPEIL_ROUNDS").ok().and_then(|count| count.parse().ok()).unwrap_or(few)
}

const BLOCK: usize = 4096;

/// A file every block of which says which version it is of.
fn version(number: u64, len: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(len / 8)
}

/// Which versions the blocks of some content are of.
fn versions(content: &[u8]) -> Vec<u64> {
    let mut found: Vec<u64> =
        content.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    found.dedup();
    found
}

/// What the target holds of a file now; an open file keeps its version while the name moves on.
fn look(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

fn settled(mirrored: &Path, content: &[u8]) -> bool {
    holds_within(Duration::from_secs(30), || look(mirrored).is_some_and(|now| now == content))
}

#[test]
fn one_write_of_sixteen_megabytes_is_whole_in_the_end_whenever_it_is_read() {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let (source, target) = (stand.source().join("f"), stand.target("standby").join("f"));
    let len = 16 << 20;
    fs::write(&source, version(0, len)).unwrap();
    assert!(settled(&target, &version(0, len)));
    for round in 1..=rounds(20) as u64 {
        let file = OpenOptions::new().write(true).open(&source).unwrap();
        let content = version(round, len);
        // Touching it first has it read while the write is under way.
        file.write_all_at(&content[..BLOCK], 0).unwrap();
        file.write_all_at(&content, 0).unwrap();
        drop(file);
        assert!(settled(&target, &content), "round {round}: {:?}", look(&target).map(|now| versions(&now)));
    }
    mirror.terminate();
}

#[test]
fn stores_through_a_mapping_after_the_file_is_closed_arrive() {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let (source, target) = (stand.source().join("f"), stand.target("standby").join("f"));
    let len = 64 * BLOCK;
    for round in 1..=rounds(20) as u64 {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&source).unwrap();
        file.set_len(len as u64).unwrap();
        // SAFETY: a fresh shared mapping of the whole file, unmapped below and used nowhere else.
        let map = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(map, libc::MAP_FAILED);
        drop(file);
        let content = version(round, len);
        for (at, block) in content.chunks(BLOCK).enumerate() {
            // SAFETY: within the mapping of `len` bytes; no reference to it exists.
            unsafe { std::ptr::copy_nonoverlapping(block.as_ptr(), map.cast::<u8>().add(at * BLOCK), BLOCK) };
        }
        // SAFETY: what was mapped above.
        assert_eq!(unsafe { libc::munmap(map, len) }, 0);
        assert!(settled(&target, &content), "round {round}: {:?}", look(&target).map(|now| versions(&now)));
    }
    mirror.terminate();
}

/// Has `write` change the source without pause, and `check` everything that shows on the target.
fn without_pause(name: &str, write: impl Fn(&Path, u64) + Sync, check: impl Fn(&[u8]) -> bool + Sync) {
    let stand = Stand::new();
    let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
    let (source, target) = (stand.source().join("f"), stand.target("standby").join("f"));
    let (done, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = Vec::new();
            while !done.load(Ordering::Acquire) {
                let Some(now) = look(&target).filter(|now| *now != last) else { continue };
                assert!(check(&now), "{name}: {:?}", versions(&now));
                seen.fetch_add(1, Ordering::AcqRel);
                last = now;
            }
        });
        let enough = rounds(20) as u64;
        for number in 1..=3000.max(enough) {
            write(&source, number);
            if number >= enough && seen.load(Ordering::Acquire) >= 3 {
                break;
            }
        }
        let last = fs::read(&source).unwrap();
        let whole = settled(&target, &last);
        done.store(true, Ordering::Release);
        assert!(whole, "{name}: {:?}", mirror.stderr());
    });
    mirror.terminate();
}

#[test]
fn of_a_file_that_is_replaced_by_rename_without_pause_only_whole_versions_show() {
    let write = |path: &Path, number: u64| {
        let new = path.with_extension("new");
        fs::write(&new, version(number, 50 * BLOCK)).unwrap();
        fs::rename(&new, path).unwrap();
    };
    without_pause("rename", write, |now| now.len() == 50 * BLOCK && versions(now).len() == 1);
}

#[test]
fn of_a_file_that_is_appended_to_without_pause_only_prefixes_show() {
    let write = |path: &Path, number: u64| {
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(&version(number, BLOCK)).unwrap();
    };
    let prefix = |now: &[u8]| {
        let numbers = versions(now);
        numbers.iter().zip(1..).all(|(number, at)| *number == at)
    };
    without_pause("append", write, prefix);
}

#[test]
fn a_file_that_is_truncated_and_written_again_without_pause_is_right_in_the_end() {
    let write = |path: &Path, number: u64| fs::write(path, version(number, 20 * BLOCK)).unwrap();
    without_pause("truncate", write, |now| versions(now).len() <= 2);
}

#[test]
fn no_torn_version_is_left_after_the_daemon_is_killed_while_a_file_is_written() {
    let stand = Stand::new();
    let (source, target) = (stand.source().join("f"), stand.target("standby").join("f"));
    let len = 4 << 20;
    let mut rng = Rng::new(9);
    for round in 1..=rounds(5).min(100) as u64 {
        let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        let file = File::options().write(true).create(true).truncate(false).open(&source).unwrap();
        let content = version(round, len);
        let kill_at = rng.below(len / BLOCK);
        for (at, block) in content.chunks(BLOCK).enumerate() {
            file.write_all_at(block, (at * BLOCK) as u64).unwrap();
            if at == kill_at {
                mirror.signal(Signal::KILL);
            }
        }
        drop(file);
        mirror.wait();
        let mirror = stand.mirror(&["standby"], &["--reconcile-interval=never"]);
        assert!(settled(&target, &content), "round {round}: {:?}", look(&target).map(|now| versions(&now)));
        assert_settles(&stand, "standby", &format!("round {round}"), &mirror);
        mirror.terminate();
    }
}
