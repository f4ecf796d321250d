//! What the filters leave out, where this side has said them and the sender is not trusted to keep to them: a pull.
//!
//! **Invariants:** what an honest sender asks for is never refused: a delete only of what the filters keep in any case.

use std::os::fd::AsFd;

use crate::disk::{Root, read_entry};
use crate::filter::Filter;
use crate::protocol::ToReceiver;
use crate::tree::{Kind, Mask, RelPath};

/// Returns the path of an operation that would make, change or move what a filter leaves out.
pub(super) fn left_out<'a>(filter: &Filter, root: &Root, message: &'a ToReceiver<'_>) -> Option<&'a RelPath> {
    let is_left_out = |path: &RelPath, kind: Kind| filter.excludes(path, kind == Kind::Dir);
    match message {
        ToReceiver::Mkdir { path, .. } | ToReceiver::DirTime { path, .. } => {
            Some(path).filter(|path| is_left_out(path, Kind::Dir))
        }
        ToReceiver::Node { path, attrs } | ToReceiver::Attrs { path, attrs, .. } => {
            Some(path).filter(|path| is_left_out(path, attrs.meta.kind))
        }
        ToReceiver::Delete { path, .. } => {
            Some(path).filter(|path| filter.withholds(path, kind(root, path) == Kind::Dir))
        }
        ToReceiver::Rename { from, to, .. } => {
            // The old name is removed, the new one made.
            let kind = kind(root, from);
            let stays = filter.withholds(from, kind == Kind::Dir);
            Some(from).filter(|_| stays).or(Some(to).filter(|path| is_left_out(path, kind)))
        }
        // What it makes or changes comes first, and that is a file.
        other => other.paths()[0].filter(|path| is_left_out(path, Kind::File)),
    }
}

/// Returns what stands at a path; a file where nothing does.
fn kind(root: &Root, path: &RelPath) -> Kind {
    let parent = root.parent(path).ok();
    let read =
        |parent: crate::disk::Parent<'_>| read_entry(parent.fd.as_fd(), parent.name, &Mask::nothing()).ok();
    parent.and_then(read).flatten().map_or(Kind::File, |entry| entry.attrs.meta.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Expect;
    use crate::tree::Time;

    #[test]
    fn an_operation_on_what_is_left_out_is_found_under_its_old_and_its_new_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("made")).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let filter = Filter::new(&["- private/", "- *.key"]).unwrap();
        let path = |text: &str| RelPath::try_from(text).unwrap();
        let found = |message: ToReceiver<'_>| left_out(&filter, &root, &message).is_some();
        let open = |name: &str| ToReceiver::Open { stream: 1, path: path(name), size: 1, basis: false };
        assert!(
            found(open("a.key")) && found(open("private/x")) && !found(open("private")) && !found(open("a"))
        );
        let rename =
            |from: &str, to: &str| ToReceiver::Rename { from: path(from), to: path(to), expect: Expect::Any };
        assert!(
            found(rename("made", "private")) && found(rename("a.key", "b")) && found(rename("b", "a.key"))
        );
        assert!(!found(rename("file", "private")) && !found(rename("made", "other")));
        let hiding = Filter::new(&["H *.key"]).unwrap();
        assert!(left_out(&hiding, &root, &rename("a.key", "b")).is_none());
        assert!(left_out(&hiding, &root, &rename("b", "a.key")).is_some());
        let delete =
            |name: &str| ToReceiver::Delete { path: path(name), expect: Expect::Any, keep_strangers: false };
        assert!(found(delete("a.key")) && found(delete("private/x")) && !found(delete("file")));
        let excluded = filter.clone().with_delete_excluded();
        assert!(left_out(&excluded, &root, &delete("a.key")).is_none());
        let dated = |name: &str| ToReceiver::DirTime { path: path(name), mtime: Time::default() };
        assert!(found(dated("private")) && !found(dated("made")));
    }
}
