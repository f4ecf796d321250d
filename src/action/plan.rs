//! The commands that lsyncd would run for a sync, as examples.

use super::calls::{self, Call};
use super::command;
use super::delays::{Combine, Delays, Etype};
use super::layers::names;
use crate::config::{Builtin, Handler, LsyncdSync};

/// The path that stands for any.
const FILE: &[u8] = b"/DIR/FILE";

/// One command, and when it would be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub when: &'static str,
    /// Program and arguments.
    pub words: Vec<Vec<u8>>,
    /// What it reads, a line each; empty for nothing.
    pub input: Vec<Vec<u8>>,
}

impl Planned {
    fn of(when: &'static str, call: Call) -> Self {
        let input = call.input.split(|byte| matches!(byte, 0 | b'\n')).filter(|line| !line.is_empty());
        let input = input.map(<[u8]>::to_vec).collect();
        Self { when, words: std::iter::once(call.program).chain(call.arguments).collect(), input }
    }
}

/// Returns what lsyncd would run for `sync`, with `DIR/FILE` for what changed. What functions of the user's
/// run nobody knows.
pub fn plan(sync: &LsyncdSync) -> Vec<Planned> {
    let mut all = Vec::new();
    if matches!(sync.init, Handler::Builtin(Builtin::RsyncInit)) {
        all.push(Planned::of("first pass", calls::rsync_all(sync, &sync.filters, &sync.excludes)));
    }
    let entry = |etype: Etype| {
        let mut delays = Delays::new(Combine::Kinds);
        match etype {
            Etype::Move => {
                delays.push_move(FILE, b"/DIR/NEW", None);
            }
            etype => delays.push(etype, FILE, None),
        }
        delays.first().map(|(_, entry)| entry.clone())
    };
    let kinds = [
        ("create", Etype::Create, &sync.on.create),
        ("modify", Etype::Modify, &sync.on.modify),
        ("attributes", Etype::Attrib, &sync.on.attrib),
        ("move", Etype::Move, &sync.on.r#move),
        ("delete", Etype::Delete, &sync.on.delete),
    ];
    match sync.action {
        Handler::Builtin(Builtin::RsyncAction | Builtin::SshAction) => {
            let list = calls::rsync_list(entry(Etype::Create).iter());
            all.push(Planned::of("a change", calls::rsync_some(sync, &list)));
            let moved = calls::ssh_move(sync, FILE, b"/DIR/NEW");
            all.extend(moved.map(|call| Planned::of("a move", call)));
        }
        Handler::Builtin(Builtin::DirectAction) => {
            for (when, etype, _) in kinds.into_iter().filter(|(_, etype, _)| *etype != Etype::Attrib) {
                let call = entry(etype).and_then(|entry| calls::direct(sync, &entry, false));
                all.extend(call.map(|call| Planned::of(when, call)));
            }
        }
        Handler::Builtin(Builtin::Action) => {
            for (when, etype, handler) in kinds {
                if let (Handler::Command(line), Some(entry)) = (handler, entry(etype)) {
                    all.push(Planned::of(when, command::compile(line, &names(sync, &entry)).0));
                }
            }
        }
        _ => {}
    }
    all
}
