//! Numbers of entries by type.

use crate::tree::Kind;

/// Entries by type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Device nodes.
    pub devices: u64,
    /// FIFOs and sockets.
    pub specials: u64,
}

impl Counts {
    /// Adds one entry.
    pub fn add(&mut self, kind: Kind) {
        let count = match kind {
            Kind::File => &mut self.files,
            Kind::Dir => &mut self.dirs,
            Kind::Symlink => &mut self.symlinks,
            Kind::CharDevice | Kind::BlockDevice => &mut self.devices,
            Kind::Fifo | Kind::Socket => &mut self.specials,
        };
        *count = count.saturating_add(1);
    }

    /// Adds what others have counted.
    pub fn add_all(&mut self, other: &Self) {
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut self.files, other.files);
        sum(&mut self.dirs, other.dirs);
        sum(&mut self.symlinks, other.symlinks);
        sum(&mut self.devices, other.devices);
        sum(&mut self.specials, other.specials);
    }

    /// Returns the number of all entries.
    pub fn total(&self) -> u64 {
        [self.files, self.dirs, self.symlinks, self.devices, self.specials]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}
