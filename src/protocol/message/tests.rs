//! What must stay as it is from version to version.

use super::*;
use crate::tree::{Kind, Meta, Time};

#[test]
fn messages_keep_their_numbers_from_version_to_version() {
    let number = |message: &ToReceiver<'_>| postcard::to_stdvec(message).unwrap()[0];
    let stated = Stated { lag_ms: None, paused: false };
    let order =
        Order { place: super::super::Keeping::Trash, since: super::super::Since::Ago(1), paths: Vec::new() };
    let duplicate = ToReceiver::Duplicate {
        path: RelPath::root(),
        like: RelPath::root(),
        attrs: Attrs {
            meta: Meta {
                kind: Kind::File,
                mode: 0,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: Time::default(),
                rdev: 0,
            },
            symlink: Vec::new(),
            xattrs: Vec::new(),
        },
        hash: [0; 32],
        provisional: false,
    };
    for (message, expected) in [
        (ToReceiver::Owners(OwnerNames::default()), 1),
        (ToReceiver::Commit { batch: 1 }, 17),
        (ToReceiver::Ping(0), 23),
        (ToReceiver::Bye, 27),
        (ToReceiver::State(stated), 30),
        (ToReceiver::Undo(order.clone()), 32),
        (ToReceiver::Resume { stream: 1, path: RelPath::root() }, 35),
        (duplicate, 37),
        (ToReceiver::Widen { connections: 1 }, 38),
        (ToReceiver::Join { root: Default::default(), place: Default::default() }, 39),
        (ToReceiver::Bundled, 40),
        (ToReceiver::Restore(order), 41),
        (ToReceiver::Upstream(Vec::new()), 42),
        (ToReceiver::Agreed { pass: 1, dir: RelPath::root(), except: Vec::new() }, 43),
        (ToReceiver::InStep, 44),
        (ToReceiver::Wanted { edition: 1, len: 0 }, 47),
        (ToReceiver::Handing(super::super::Handing::Done(true)), 51),
    ] {
        assert_eq!(number(&message), expected, "{message:?}");
    }
    for (answer, expected) in [
        (ToSender::Fatal("".into()), 15),
        (ToSender::Places(Vec::new()), 20),
        (ToSender::Joined, 21),
        (ToSender::AsItWas { gone: Vec::new(), already: 0 }, 22),
        (ToSender::Failed { of: Subject::Stream(1), operation: "".into(), errno: 0 }, 23),
        (ToSender::NotDone { of: Subject::Operation(1), why: Why::Torn }, 24),
    ] {
        assert_eq!(postcard::to_stdvec(&answer).unwrap()[0], expected, "{answer:?}");
    }
}
