//! Makes a tree like an upload directory: dated folders, many small files and few large ones.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::support::rng::Rng;

/// What an upload directory holds.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    /// Where the randomness begins.
    pub seed: u64,
    /// Number of files.
    pub files: usize,
    /// Number of files per directory, on average.
    pub files_per_dir: usize,
    /// The median file size in bytes; sizes spread log-normally around it.
    pub median_bytes: f64,
    /// The largest file size in bytes.
    pub bytes_max: usize,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// Number of files.
    pub files: usize,
    /// Number of directories, without the root.
    pub dirs: usize,
    /// The sum of all file sizes.
    pub bytes: u64,
}

impl Upload {
    /// Returns a description with `files` files of 14 kB on average: 50,000 are 700 MB.
    pub const fn of(files: usize, seed: u64) -> Self {
        Self { seed, files, files_per_dir: 60, median_bytes: 4_700.0, bytes_max: 4 << 20 }
    }

    /// Makes the tree below `root`, which is made if it is missing.
    ///
    /// # Errors
    /// The system's, on the first operation that fails.
    pub fn grow(&self, root: &Path) -> io::Result<Grown> {
        let mut rng = Rng::new(self.seed);
        let mut grown = Grown { files: 0, dirs: 0, bytes: 0 };
        let mut dirs = vec![root.to_path_buf()];
        fs::create_dir_all(root)?;
        while grown.files < self.files {
            let dir = self.make_dir(root, &mut dirs)?;
            let here = (1 + rng.below(self.files_per_dir * 2)).min(self.files - grown.files);
            for _ in 0..here {
                grown.bytes += self.make_file(&dir, grown.files, &mut rng)?;
                grown.files += 1;
            }
        }
        grown.dirs = dirs.len() - 1;
        // Last and deepest first: making entries touches the directory.
        for dir in dirs.iter().rev() {
            set_times(dir, random_time(&mut rng))?;
        }
        Ok(grown)
    }

    /// Makes the next dated directory, `YEAR/MONTH/DAY`.
    fn make_dir(&self, root: &Path, dirs: &mut Vec<PathBuf>) -> io::Result<PathBuf> {
        for number in 0.. {
            let (year, month, day) = (2016 + number / 336, 1 + number / 28 % 12, 1 + number % 28);
            let path = root.join(format!("{year}/{month:02}/{day:02}"));
            if path.exists() {
                continue;
            }
            for above in [root.join(format!("{year}")), root.join(format!("{year}/{month:02}")), path.clone()]
            {
                if !above.exists() {
                    fs::create_dir(&above)?;
                    dirs.push(above);
                }
            }
            return Ok(path);
        }
        unreachable!("the loop ends at a free name")
    }

    fn make_file(&self, dir: &Path, number: usize, rng: &mut Rng) -> io::Result<u64> {
        let size = (self.median_bytes * (1.48 * rng.normal()).exp()) as usize;
        let size = size.min(self.bytes_max);
        // Three of four are like JPEG and do not compress.
        let (bytes, suffix) = if rng.one_in(4) { (rng.text(size), "html") } else { (rng.bytes(size), "jpg") };
        let path = dir.join(format!("{number:06}-{:08x}.{suffix}", rng.bits() >> 32));
        let mut file = File::create(&path)?;
        file.write_all(&bytes)?;
        let mode = if rng.one_in(20) { 0o640 } else { 0o644 };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        drop(file);
        set_times(&path, random_time(rng))?;
        Ok(size as u64)
    }
}

/// Returns a time from 2016 to 2024 with nanoseconds.
fn random_time(rng: &mut Rng) -> Timespec {
    let seconds = 1_451_606_400 + rng.below(283_996_800);
    Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: rng.below(1_000_000_000) as _ }
}

/// Sets access and modification time of `path` itself, following no symlink.
///
/// # Errors
/// The system's.
pub fn set_times(path: &Path, time: Timespec) -> io::Result<()> {
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies everything below `from` to `to` with all its metadata, with `cp -a` of the system.
///
/// # Errors
/// If `cp` fails.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let status = Command::new("cp").arg("-a").arg("--").arg(from.join(".")).arg(to).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cp -a: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::tree::assert_same;

    #[test]
    fn same_seed_makes_the_same_tree() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let made = Upload::of(300, 9).grow(&a).expect("a tree");
        assert_eq!(made, Upload::of(300, 9).grow(&b).expect("a tree"));
        assert_same(&a, &b);
        assert_ne!(made, Upload::of(300, 10).grow(&dir.path().join("c")).expect("a tree"));
    }

    #[test]
    fn sizes_are_those_of_uploads() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Upload::of(2000, 1).grow(dir.path()).expect("a tree");
        assert_eq!(made.files, 2000);
        let mean = made.bytes / 2000;
        assert!((10_000..18_000).contains(&mean), "a mean of {mean} bytes");
        assert!((20..80).contains(&made.dirs), "{} directories", made.dirs);
    }

    #[test]
    fn copied_tree_is_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        Upload::of(100, 3).grow(&a).expect("a tree");
        copy_tree(&a, &b).expect("a copy");
        assert_same(&a, &b);
    }
}
