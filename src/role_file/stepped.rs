//! That the primary of the tree's generation has stepped down in order, as it told: whoever takes over need not wait to
//! see whether it is only silent. `contrib/keepalived/speil-notify` reads it.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{RoleFile, RoleFileError, failed};
use crate::role::{Record, Role};

const NAME: &str = "stepped";
const NEW: &str = "stepped.new";

impl RoleFile {
    /// Notes that whoever made the tree's generation is a standby now, if it tells so.
    ///
    /// # Errors
    /// If that cannot be written; a promotion by keepalived then takes a little longer.
    pub fn stepped(&self, own: &Record, other: &Record) -> Result<(), RoleFileError> {
        let (Some(held), Some(led)) = (&own.generation, &other.generation) else { return Ok(()) };
        let steps = other.role == Role::Standby && other.mine && held.id() == led.id();
        // Whoever brings it to another generation leads it.
        if !steps || own.role != Role::Standby || own.adopting.is_some() {
            return Ok(());
        }
        self.replace((NAME, NEW), format!("{}\n", held.id()).as_bytes())
    }

    /// Forgets it: somebody leads the tree again.
    ///
    /// # Errors
    /// What unlinkat(2) says.
    pub fn is_led(&self) -> Result<(), RoleFileError> {
        match rustix::fs::unlinkat(&self.dir, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", NAME)(error)),
        }
    }
}
