//! rsync's `-i`: eleven characters that say what changed.
//!
//! Source: rsync(1) "--itemize-changes", and what rsync prints where the page is silent.

use std::fmt;

use crate::tree::Kind;

/// What happens to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Update {
    /// Content goes to another host: `<`.
    Sent,
    /// Content goes to a target on this host: `>`.
    Received,
    /// Something without content is made or changed: `c`.
    Made,
    /// A name is linked to another one: `h`.
    Linked,
    /// At most attributes change: `.`.
    Kept,
    /// The name goes: `*deleting`.
    Deleted,
}

/// How a modification time changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ItemTime {
    /// It does not.
    #[default]
    Same,
    /// It becomes the source's: `t`.
    Source,
    /// It becomes the time of the transfer, since times are not kept: `T`.
    Transfer,
}

/// What about an entry changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per letter of rsync's")]
pub struct Changed {
    /// The target had nothing of the name and type: `+` all along.
    pub new: bool,
    /// Content that was compared by checksum, a symlink's or a device's value: `c`.
    pub value: bool,
    /// The size: `s`.
    pub size: bool,
    /// The modification time: `t`, `T`.
    pub time: ItemTime,
    /// Permission bits: `p`.
    pub perms: bool,
    /// The owner: `o`.
    pub owner: bool,
    /// The group: `g`.
    pub group: bool,
    /// The ACL: `a`.
    pub acl: bool,
    /// Extended attributes: `x`.
    pub xattrs: bool,
}

/// One entry's change; `Display` writes the eleven characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Item {
    /// What happens to it.
    pub update: Update,
    /// Its type.
    pub kind: Kind,
    /// What about it changes.
    pub changed: Changed,
}

impl Item {
    /// Returns the item of an entry that is deleted.
    pub fn deleted(kind: Kind) -> Self {
        Self { update: Update::Deleted, kind, changed: Changed::default() }
    }

    fn letters(&self) -> [char; 9] {
        let c = &self.changed;
        if c.new {
            return ['+'; 9];
        }
        let on = |on: bool, letter: char| if on { letter } else { '.' };
        let time = match c.time {
            ItemTime::Same => '.',
            ItemTime::Source => 't',
            ItemTime::Transfer => 'T',
        };
        let letters = [
            on(c.value, 'c'),
            on(c.size, 's'),
            time,
            on(c.perms, 'p'),
            on(c.owner, 'o'),
            on(c.group, 'g'),
            '.',
            on(c.acl, 'a'),
            on(c.xattrs, 'x'),
        ];
        let sent = matches!(self.update, Update::Sent | Update::Received);
        if !sent && letters == ['.'; 9] { [' '; 9] } else { letters }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let update = match self.update {
            Update::Sent => '<',
            Update::Received => '>',
            Update::Made => 'c',
            Update::Linked => 'h',
            Update::Kept => '.',
            Update::Deleted => return f.pad("*deleting  "),
        };
        let kind = match self.kind {
            Kind::File => 'f',
            Kind::Dir => 'd',
            Kind::Symlink => 'L',
            Kind::CharDevice | Kind::BlockDevice => 'D',
            Kind::Fifo | Kind::Socket => 'S',
        };
        let text: String = [update, kind].into_iter().chain(self.letters()).collect();
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(update: Update, kind: Kind, changed: Changed) -> String {
        Item { update, kind, changed }.to_string()
    }

    #[test]
    fn items_are_eleven_characters() {
        let none = Changed::default();
        let new = Changed { new: true, ..none };
        let all = Changed {
            value: true,
            size: true,
            time: ItemTime::Transfer,
            perms: true,
            owner: true,
            group: true,
            acl: true,
            xattrs: true,
            ..none
        };
        for (text, expected) in [
            (item(Update::Sent, Kind::File, new), "<f+++++++++"),
            (item(Update::Made, Kind::Dir, new), "cd+++++++++"),
            (item(Update::Made, Kind::Symlink, new), "cL+++++++++"),
            (item(Update::Made, Kind::BlockDevice, new), "cD+++++++++"),
            (item(Update::Made, Kind::Socket, new), "cS+++++++++"),
            (item(Update::Received, Kind::File, all), ">fcsTpog.ax"),
            (item(Update::Received, Kind::File, none), ">f........."),
            (item(Update::Kept, Kind::File, none), ".f         "),
            (item(Update::Linked, Kind::File, none), "hf         "),
            (Item::deleted(Kind::File).to_string(), "*deleting  "),
        ] {
            assert_eq!(text, expected);
            assert_eq!(text.len(), 11);
        }
    }
}
