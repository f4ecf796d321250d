//! Directories beside the target: what they may hold of what it lacks, and what they take of what it loses.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_bytes::ByteBuf;

use super::draft::{AskedBackup, Draft};
use super::error::CliError;
use super::values::ValueError;
use crate::config::{Backup, Beside, Borrow, DeleteMode};
use crate::tree::quote;

/// Most directories of `--link-dest`; rsync's own bound.
const BESIDE_MAX: usize = 20;

/// Returns a directory as it is seen from where the target is in the end: `carried` below the one that was named.
fn seen(dir: &[u8], carried: Option<&[u8]>) -> Vec<u8> {
    match carried {
        None => dir.to_vec(),
        Some(name) if dir.starts_with(b"/") => [dir, b"/", name].concat(),
        Some(name) => [b"../", dir, b"/", name].concat(),
    }
}

impl Draft {
    #[allow(clippy::unnecessary_wraps, reason = "the form of every option with a value")]
    pub(super) fn add_beside(&mut self, borrow: Borrow, dir: &OsStr) -> Result<(), ValueError> {
        self.asked.beside.push((borrow, dir.to_owned()));
        Ok(())
    }

    /// Takes in what becomes of what is replaced or removed. Returns the rule that keeps earlier backups from being
    /// removed.
    pub(super) fn settle_backup(&mut self, carried: Option<&[u8]>) -> Result<Option<Vec<u8>>, CliError> {
        let AskedBackup { on, dir, suffix } = std::mem::take(&mut self.asked.backup);
        if !on && dir.is_none() {
            return Ok(None);
        }
        if self.sync.trash.is_some() {
            return Err(CliError::Conflict("--backup", "--trash"));
        }
        let suffix = suffix.unwrap_or_else(|| if dir.is_some() { OsString::new() } else { "~".into() });
        let bytes = suffix.as_bytes();
        if bytes.contains(&b'/') || bytes.is_empty() && dir.is_none() {
            let text = format!("--suffix: {} is no end of a name", quote(bytes));
            return Err(CliError::Syntax(text));
        }
        if dir.is_none() {
            // Each backup changes the time of its directory: as in rsync, they are not kept then.
            self.sync.mask.dir_times = false;
        }
        let protects = self.sync.delete != DeleteMode::Never && !self.sync.guard.delete_excluded;
        let rule = match &dir {
            None => Some([b"P *", bytes].concat()),
            // It lies in the target itself.
            Some(dir) if !dir.as_bytes().starts_with(b"/") && !dir.as_bytes().starts_with(b"..") => {
                let dir = Path::new(dir).components().collect::<PathBuf>();
                Some([b"P /", dir.as_os_str().as_bytes(), b"/"].concat()).filter(|_| carried.is_none())
            }
            Some(_) => None,
        };
        let dir = dir.map(|dir| ByteBuf::from(seen(dir.as_bytes(), carried)));
        self.sync.backup = Some(Backup { dir, suffix: ByteBuf::from(bytes) });
        Ok(rule.filter(|_| protects))
    }

    /// Takes in the directories beside the target, as they are seen from where the target is in the end: `carried`
    /// below the one that was named.
    pub(super) fn settle_beside(&mut self, carried: Option<&[u8]>) -> Result<(), CliError> {
        let asked = std::mem::take(&mut self.asked.beside);
        let Some((borrow, _)) = asked.first() else { return Ok(()) };
        let borrow = *borrow;
        if asked.iter().any(|(other, _)| *other != borrow) {
            return Err(CliError::Conflict("--link-dest, --copy-dest", "--compare-dest"));
        }
        if asked.len() > BESIDE_MAX {
            let option = format!("--link-dest: {} directories, and {BESIDE_MAX} are the most", asked.len());
            return Err(CliError::Syntax(option));
        }
        let dirs = asked.iter().map(|(_, dir)| ByteBuf::from(seen(dir.as_bytes(), carried))).collect();
        self.sync.beside = Some(Beside { borrow, dirs });
        Ok(())
    }
}
