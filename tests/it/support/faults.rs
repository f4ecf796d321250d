//! What only root can do to a host, for tests that need it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this process may mount and change users. Where it may not, such a test says so and ends;
/// continuous integration runs as root.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not run: needs root");
    }
    root
}

/// A mounted filesystem, for as long as this lives.
pub struct Mount(PathBuf);

impl Mount {
    /// A filesystem in memory, of `size` as tmpfs(5) writes it.
    pub fn tmpfs(at: &Path, size: &str) -> Self {
        Self::at(at, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// The filesystem in an image.
    pub fn loop_image(image: &Path, at: &Path) -> Self {
        Self::at(at, &["-o", "loop", &image.display().to_string()])
    }

    /// What stands at `what`, shown at `at` as well.
    pub fn bind(what: &Path, at: &Path) -> Self {
        Self::at(at, &["--bind", &what.display().to_string()])
    }

    fn at(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        let output = Command::new("mount").args(arguments).arg(at).output().unwrap();
        assert!(output.status.success(), "mount {arguments:?}: {output:?}");
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
