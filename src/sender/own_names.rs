//! What users and groups are called on this host.
//!
//! A process that confines itself has them looked up by a thread that began before: the system's database may be files,
//! a daemon's socket or a directory server. The thread takes numbers and gives names; no path and no content ever
//! reaches it.

use std::io;
use std::sync::OnceLock;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::unistd::{Gid, Group, Uid, User};

struct Question {
    id: u32,
    of_group: bool,
    answer: Sender<Option<String>>,
}

static THREAD: OnceLock<Sender<Question>> = OnceLock::new();

/// Has names looked up by a thread that begins now.
///
/// # Errors
/// What starting a thread says.
pub fn look_up_apart() -> io::Result<()> {
    let (questions, inbox) = bounded(1);
    std::thread::Builder::new().name("owners".to_owned()).spawn(move || run(&inbox))?;
    let _ = THREAD.set(questions);
    Ok(())
}

/// Returns the name of a user.
pub(super) fn user(id: u32) -> Option<String> {
    name(id, false)
}

/// Returns the name of a group.
pub(super) fn group(id: u32) -> Option<String> {
    name(id, true)
}

fn name(id: u32, of_group: bool) -> Option<String> {
    let Some(thread) = THREAD.get() else { return look_up(id, of_group) };
    let (answer, answered) = bounded(1);
    thread.send(Question { id, of_group, answer }).ok()?;
    answered.recv().ok()?
}

fn run(inbox: &Receiver<Question>) {
    for Question { id, of_group, answer } in inbox {
        // Whoever asked may have left.
        let _ = answer.send(look_up(id, of_group));
    }
}

fn look_up(id: u32, of_group: bool) -> Option<String> {
    if of_group {
        return Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name);
    }
    User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name)
}
