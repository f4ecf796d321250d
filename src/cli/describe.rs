//! What was sent, as a line of `-i` has it.

use super::itemize::{Changed, Item, ItemTime, Update};
use crate::monitor::Itemized;
use crate::tree::{Entry, Kind, Mask, Meta};

/// What the names of ACLs begin with.
const ACL: &[u8] = b"system.posix_acl";

/// What a line of `-i`, `-v` or `--out-format` is made of.
pub(super) struct Described {
    pub item: Item,
    /// The path; of a rename both.
    pub name: Vec<u8>,
    /// What a symlink or a hard link leads to.
    pub link: Option<Vec<u8>>,
    pub meta: Option<Meta>,
}

/// How changes of one sync are described.
pub(super) struct Describer {
    /// What is kept, so that nothing else counts as changed.
    pub mask: Mask,
    /// Whether the target is another host: `<` instead of `>`.
    pub remote: bool,
    /// Whether contents are compared, so that content that is sent is known to differ.
    pub checksum: bool,
}

impl Describer {
    /// Returns what to say of one change.
    pub fn describe(&self, change: &Itemized) -> Described {
        match change {
            Itemized::Changed { path, new, old, content, .. } => {
                let meta = &new.attrs.meta;
                Described {
                    item: self.item(new, old.as_deref(), change.made().is_some(), *content),
                    name: path.as_bytes().to_vec(),
                    link: (meta.kind == Kind::Symlink).then(|| new.attrs.symlink.clone()),
                    meta: Some(meta.clone()),
                }
            }
            Itemized::Borrowed { path, new, old } => {
                let mut item = self.item(new, Some(old), false, false);
                // Made anew, a symlink or node is told as if its value had changed, as in rsync.
                item.changed.value |= !matches!(new.attrs.meta.kind, Kind::File | Kind::Dir);
                Described {
                    item: Item { update: Update::Made, ..item },
                    name: path.as_bytes().to_vec(),
                    link: (new.attrs.meta.kind == Kind::Symlink).then(|| new.attrs.symlink.clone()),
                    meta: Some(new.attrs.meta.clone()),
                }
            }
            Itemized::Linked { path, existing, created, new, old } => Described {
                item: Item {
                    update: Update::Linked,
                    kind: new.attrs.meta.kind,
                    changed: self.linked(new, old.as_deref(), created.is_some()),
                },
                name: path.as_bytes().to_vec(),
                link: Some(existing.as_bytes().to_vec()),
                meta: None,
            },
            Itemized::Same { path, kind, linked, symlink } => Described {
                item: Item {
                    update: if *linked { Update::Linked } else { Update::Kept },
                    kind: *kind,
                    changed: Changed::default(),
                },
                name: path.as_bytes().to_vec(),
                link: (*kind == Kind::Symlink).then(|| symlink.clone()),
                meta: None,
            },
            Itemized::Listed { path, entry } => Described {
                item: self.item(entry, None, true, false),
                name: path.as_bytes().to_vec(),
                link: (!entry.attrs.symlink.is_empty()).then(|| entry.attrs.symlink.clone()),
                meta: Some(entry.attrs.meta.clone()),
            },
            Itemized::Deleted { path, kind } => Described {
                item: Item::deleted(*kind),
                name: path.as_bytes().to_vec(),
                link: None,
                meta: None,
            },
            Itemized::Renamed { from, to } => Described {
                item: Item { update: Update::Kept, kind: Kind::File, changed: Changed::default() },
                name: [from.as_bytes(), b" -> ", to.as_bytes()].concat(),
                link: None,
                meta: None,
            },
        }
    }

    fn item(&self, new: &Entry, old: Option<&Entry>, fresh: bool, content: bool) -> Item {
        let kind = new.attrs.meta.kind;
        let sent = if self.remote { Update::Sent } else { Update::Received };
        let update = match (kind, content, fresh) {
            (Kind::File, true, _) => sent,
            (Kind::File, false, _) | (_, _, false) => Update::Kept,
            _ => Update::Made,
        };
        let changed = match old {
            _ if fresh => Changed { new: true, ..Changed::default() },
            Some(old) => self.changed(new, old, content),
            None => Changed {
                time: if self.mask.times { ItemTime::Source } else { ItemTime::Transfer },
                ..Changed::default()
            },
        };
        let update = if kind != Kind::File && changed.value { Update::Made } else { update };
        Item { update, kind, changed }
    }

    /// Returns what about a name changes that is linked to another one.
    fn linked(&self, new: &Entry, old: Option<&Entry>, created: bool) -> Changed {
        match old {
            Some(old) if !created && old.attrs.meta.kind == new.attrs.meta.kind => {
                self.changed(new, old, false)
            }
            None if !created => Changed::default(),
            _ => Changed { new: true, ..Changed::default() },
        }
    }

    fn changed(&self, new: &Entry, old: &Entry, content: bool) -> Changed {
        let (a, b) = (&new.attrs.meta, &old.attrs.meta);
        // ACLs are extended attributes to the kernel, and something else to rsync.
        let xattrs_differ = |acls: bool| {
            let of = |entry: &'_ Entry| {
                let kept = entry.attrs.xattrs.iter().filter(|x| x.name.starts_with(ACL) == acls);
                kept.cloned().collect::<Vec<_>>()
            };
            of(new) != of(old)
        };
        let time = match self.mask.keeps_time(a.kind) {
            true if a.mtime != b.mtime => ItemTime::Source,
            false if content => ItemTime::Transfer,
            _ => ItemTime::Same,
        };
        Changed {
            new: false,
            value: new.attrs.symlink != old.attrs.symlink || a.rdev != b.rdev || self.checksum && content,
            size: a.size != b.size,
            time,
            perms: self.mask.perms && a.kind != Kind::Symlink && a.mode != b.mode,
            owner: self.mask.owner && a.uid != b.uid,
            group: self.mask.group && a.gid != b.gid,
            acl: self.mask.acls && xattrs_differ(true),
            xattrs: self.mask.xattrs && xattrs_differ(false),
        }
    }
}
