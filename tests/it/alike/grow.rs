//! Random trees: what a source holds, and a target that has drifted from it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Timespec};

use crate::support::rng::Rng;
use crate::support::tree::set_times;

const NAMES: [&[u8]; 14] = [
    b"a",
    b"b",
    b"c d",
    b"e.tmp",
    b"f.log",
    b"-g",
    b"st*r",
    b"[h]",
    b"new\nline",
    b"\xff\xfe",
    b"core",
    b"z+",
    b"\xc3\xa9",
    b".hidden",
];
const LINKS: [&str; 5] = ["a", "nowhere", "../a", "/nonexistent", "b/"];
/// Moments of files, in different seconds: rsync takes times within one second for equal, which speil does not.
const TIMES: [(i64, i64); 4] =
    [(1_000_000_000, 0), (1_000_000_001, 7), (1_234_567_890, 123_456_789), (1_500_000_000, 0)];

fn name(rng: &mut Rng) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(NAMES[rng.below(NAMES.len())]))
}

pub fn date(path: &Path, (tv_sec, tv_nsec): (i64, i64)) {
    set_times(path, Timespec { tv_sec, tv_nsec }).unwrap();
}

fn content(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(8) {
        0 => 0,
        1 => 3000 + rng.below(60_000),
        2 => 4096,
        _ => rng.below(20),
    };
    let mut bytes = vec![0; len];
    if rng.one_in(3) {
        rng.fill(&mut bytes);
    } else {
        bytes.fill(b"xy"[rng.below(2)]);
    }
    bytes
}

/// Dates everything below a directory and itself, the deepest first.
fn date_all(at: &Path, rng: &mut Rng) {
    let walk = walkdir::WalkDir::new(at).contents_first(true).sort_by_file_name();
    for entry in walk.into_iter().flatten() {
        date(entry.path(), TIMES[rng.below(TIMES.len())]);
    }
}

/// Makes a tree of some 20 entries.
pub fn grow(at: &Path, rng: &mut Rng) {
    fs::create_dir_all(at).unwrap();
    let mut dirs = vec![at.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    for _ in 0..6 + rng.below(22) {
        let path = dirs[rng.below(dirs.len())].join(name(rng));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match rng.below(12) {
            0..=2 => {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode([0o755, 0o700, 0o2775][rng.below(3)]))
                    .unwrap();
                dirs.push(path);
            }
            3 => symlink(LINKS[rng.below(LINKS.len())], &path).unwrap(),
            4 if !files.is_empty() => fs::hard_link(&files[rng.below(files.len())], &path).unwrap(),
            5 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o640), 0).unwrap(),
            _ => {
                fs::write(&path, content(rng)).unwrap();
                let mode = [0o644, 0o600, 0o755, 0o4711, 0o444][rng.below(5)];
                if rng.one_in(4) {
                    let _ = rustix::fs::setxattr(&path, "user.note", b"v", rustix::fs::XattrFlags::empty());
                }
                if rng.one_in(4) && rustix::process::geteuid().is_root() {
                    std::os::unix::fs::lchown(&path, Some(12), Some([100, 54321][rng.below(2)])).unwrap();
                }
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                files.push(path);
            }
        }
    }
    date_all(at, rng);
}

/// Takes out the symlinks that lead back to what holds them, and those to what holds such symlinks: rsync follows them until
/// the system refuses.
pub fn break_circles(at: &Path) {
    let leads = |path: &Path| path.is_symlink() && path.is_dir();
    let walk = walkdir::WalkDir::new(at).min_depth(1).sort_by_file_name();
    for entry in walk.into_iter().flatten().filter(|entry| leads(entry.path())) {
        let there = entry.path().canonicalize().unwrap();
        let below = walkdir::WalkDir::new(&there).into_iter().flatten();
        if entry.path().starts_with(&there) || below.into_iter().any(|below| leads(below.path())) {
            keeping_time(entry.path().parent().unwrap(), || fs::remove_file(entry.path()).unwrap());
        }
    }
}

/// Changes what a directory holds, and leaves its time as it was.
fn keeping_time(dir: &Path, change: impl FnOnce()) {
    use std::os::unix::fs::MetadataExt;
    let meta = dir.metadata().unwrap();
    change();
    date(dir, (meta.mtime(), meta.mtime_nsec()));
}

/// Gives some files and directories a further user who may read.
pub fn give_acls(at: &Path, rng: &mut Rng) {
    let walk = walkdir::WalkDir::new(at).min_depth(1).sort_by_file_name();
    for entry in walk.into_iter().flatten() {
        if !entry.path_is_symlink() && !entry.file_type().is_fifo() && rng.one_in(3) {
            let rule = ["u:12:r", "g:100:rwx", "d:u:12:rx"]
                [rng.below(if entry.file_type().is_dir() { 3 } else { 2 })];
            let done =
                std::process::Command::new("setfacl").args(["-m", rule, "--"]).arg(entry.path()).status();
            assert!(done.unwrap().success());
        }
    }
}

/// Changes a copy of a source as users, other programs and earlier runs do.
pub fn drift(at: &Path, rng: &mut Rng) {
    let walk = walkdir::WalkDir::new(at).min_depth(1).sort_by_file_name();
    let paths: Vec<PathBuf> = walk.into_iter().flatten().map(walkdir::DirEntry::into_path).collect();
    for path in paths {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let done: io::Result<()> = match rng.below(14) {
            0 if meta.is_dir() => fs::remove_dir_all(&path),
            0 => fs::remove_file(&path),
            1 if meta.is_file() => write_again(&path, &content(rng), true),
            // As long as before, at another time.
            2 if meta.is_file() => write_again(&path, &vec![b'w'; meta.len() as usize], false),
            // As long as before, and dated as before.
            3 if meta.is_file() => write_again(&path, &vec![b'v'; meta.len() as usize], true),
            4 if !meta.is_symlink() => {
                fs::set_permissions(&path, fs::Permissions::from_mode(meta.permissions().mode() ^ 0o044))
            }
            5 => {
                date(&path, TIMES[rng.below(TIMES.len())]);
                Ok(())
            }
            6 if meta.is_file() => fs::remove_file(&path).and_then(|()| fs::create_dir(&path)),
            7 if meta.is_dir() => {
                fs::remove_dir_all(&path).and_then(|()| fs::write(&path, "was a directory"))
            }
            8 if meta.is_file() => fs::remove_file(&path).and_then(|()| symlink("a", &path)),
            9 if meta.is_dir() => fs::write(path.join("extra"), "only there"),
            _ => Ok(()),
        };
        done.unwrap();
    }
    if rng.one_in(2) {
        fs::create_dir_all(at.join("old/deep")).unwrap();
        fs::write(at.join("old/deep/file.log"), "only there").unwrap();
        fs::write(at.join("old.tmp"), "only there").unwrap();
    }
}

fn write_again(path: &Path, content: &[u8], dated: bool) -> io::Result<()> {
    let time = path.metadata()?.modified()?;
    fs::write(path, content)?;
    let file = fs::File::options().write(true).open(path)?;
    let later = time + std::time::Duration::from_secs(100);
    file.set_modified(if dated { time } else { later })
}
