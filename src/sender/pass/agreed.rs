//! Telling the target what a pass has found to be equal: what is there as it is here needs no second copy when
//! it is replaced, whoever wrote it.

use serde_bytes::ByteBuf;

use super::{Moot, Pass};
use crate::batch::Extent;
use crate::protocol::{ToReceiver, VERSION_AGREED};
use crate::reconcile::Difference;
use crate::sender::shared::Shared;
use crate::tree::RelPath;

/// Most bytes of names that differ in one directory; where there are more, the next pass tells.
const EXCEPT_LEN_MAX: usize = 256 << 10;

/// What is known of the directory that is compared.
pub(super) struct Agreement {
    /// The target wants to know, and equal means equal: no option lets differences be.
    tells: bool,
    /// Names that are not known to be equal; none more where there are too many to tell.
    except: Vec<ByteBuf>,
    /// What they take in a message.
    len: usize,
}

impl Agreement {
    pub fn of(shared: &Shared) -> Self {
        let options = &shared.options;
        let tells = shared.version >= VERSION_AGREED && options.live && !options.dry_run;
        Self { tells: tells && !shared.rules.may_differ(), except: Vec::new(), len: 0 }
    }

    /// Begins a directory.
    pub fn begin(&mut self) {
        (self.except, self.len) = (Vec::new(), 0);
    }

    /// Takes in that nothing is known of a name.
    pub fn leaves(&mut self, name: &[u8]) {
        if self.len <= EXCEPT_LEN_MAX {
            self.len += name.len() + 4;
            self.except.push(ByteBuf::from(name));
        }
    }

    /// Takes in a difference.
    pub fn differs(&mut self, difference: &Difference<'_>) {
        let entry = match difference {
            // The content is the same, or is what is below it.
            Difference::Missing(_) | Difference::Changed { scope: Extent::Attributes, .. } => return,
            Difference::Changed { target, .. } | Difference::Retyped { target, .. } => target,
            Difference::Below(_, entry)
            | Difference::Extra(entry)
            | Difference::Alike(entry, _)
            | Difference::Spared(entry) => entry,
        };
        if self.tells {
            self.leaves(&entry.name);
        }
    }

    /// Whether nothing differs.
    pub fn is_whole(&self) -> bool {
        self.except.is_empty()
    }
}

impl Pass {
    /// Tells the target what is equal in a directory.
    pub(super) fn agree(&mut self, dir: RelPath) -> Result<(), Moot> {
        let except = std::mem::take(&mut self.agreement.except);
        if !self.agreement.tells || self.agreement.len > EXCEPT_LEN_MAX {
            return Ok(());
        }
        self.send(&ToReceiver::Agreed { pass: self.id, dir, except })
    }
}
