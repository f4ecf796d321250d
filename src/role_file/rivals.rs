//! Other primaries of the tree that were met: what `speil health` says of a split, without a daemon.

use std::io::Read;

use rustix::fs::{Mode, OFlags};

use super::{RoleFile, RoleFileError};
use crate::role::{HostName, Rank, Record, Rival, rank_of};

const NAME: &str = "rivals";
const NEW: &str = "rivals.new";
/// Most bytes that are read, and most hosts that are noted.
const LEN_MAX: u64 = 8192;
const HOSTS_MAX: usize = 16;

impl RoleFile {
    /// Notes what another host has told of itself: that it leads another truth than this tree, or does so no more.
    ///
    /// # Errors
    /// If that cannot be written: then `speil health` does not know it, and nothing else depends on it.
    pub fn met(&self, own: &Record, host: &HostName, other: &Record) -> Result<(), RoleFileError> {
        let known = self.rivals(own);
        let mut now: Vec<Rival> = known.iter().filter(|rival| rival.host != *host).cloned().collect();
        if let Rank::Rival(n) = rank_of(own, other) {
            now.push(Rival { host: host.clone(), n });
        }
        now.truncate(HOSTS_MAX);
        now.sort_by(|a, b| a.host.cmp(&b.host));
        let Some(id) = own.generation.as_ref().map(|generation| generation.id()).filter(|_| now != known)
        else {
            return Ok(());
        };
        let lines: String = now.iter().map(|rival| format!("{id} {} {}\n", rival.n, rival.host)).collect();
        self.replace((NAME, NEW), lines.as_bytes())
    }

    /// Returns the other primaries that were met since this tree has its generation.
    pub fn rivals(&self, own: &Record) -> Vec<Rival> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.dir, NAME, flags, Mode::empty()) else { return Vec::new() };
        let mut text = String::new();
        if std::fs::File::from(file).take(LEN_MAX).read_to_string(&mut text).is_err() {
            return Vec::new();
        }
        let id = own.generation.as_ref().map(|generation| generation.id().to_string());
        let rival = |line: &str| {
            let mut words = line.split(' ');
            let led = words.next().map(str::to_owned);
            let n = words.next()?.parse().ok()?;
            (led == id).then_some(Rival { host: HostName::new(words.next()?), n })
        };
        text.lines().filter_map(rival).take(HOSTS_MAX).collect()
    }
}
