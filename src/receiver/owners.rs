//! What names of users and groups are here.
//!
//! Looked up on a thread of its own, which begins before the agent confines itself: the system's
//! database may be files, a daemon's socket or a directory server, and changes while a session lasts.
//! The thread takes names and gives numbers; no path and no content ever reaches it.

use std::io;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::unistd::{Group, User};

use crate::protocol::{OwnerNames, Owners};

enum Question {
    Owners(OwnerNames, Sender<Owners>),
    Own(Sender<String>),
}

/// The thread that knows the names of this host.
pub(super) struct Names {
    questions: Sender<Question>,
}

impl Names {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (questions, inbox) = bounded(1);
        std::thread::Builder::new().name("owners".to_owned()).spawn(move || run(&inbox))?;
        Ok(Self { questions })
    }

    /// Returns what owners of the source are here; those without a name here are left out.
    pub fn owners(&self, names: OwnerNames) -> Owners {
        self.ask(|answer| Question::Owners(names, answer)).unwrap_or_default()
    }

    /// Returns the name of the agent's own user, or its number where it has none.
    pub fn own(&self) -> String {
        self.ask(Question::Own).unwrap_or_else(|| nix::unistd::geteuid().to_string())
    }

    fn ask<A>(&self, question: impl FnOnce(Sender<A>) -> Question) -> Option<A> {
        let (answer, answered) = bounded(1);
        self.questions.send(question(answer)).ok()?;
        answered.recv().ok()
    }
}

fn run(inbox: &Receiver<Question>) {
    for question in inbox {
        // Whoever asked may have left.
        let _ = match question {
            Question::Owners(names, answer) => answer.send(known(&names)).is_ok(),
            Question::Own(answer) => answer.send(own()).is_ok(),
        };
    }
}

fn known(names: &OwnerNames) -> Owners {
    let user = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    let group = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    Owners {
        users: names.users.iter().filter_map(|(id, name)| Some((*id, user(name)?))).collect(),
        groups: names.groups.iter().filter_map(|(id, name)| Some((*id, group(name)?))).collect(),
    }
}

fn own() -> String {
    let id = nix::unistd::geteuid();
    match User::from_uid(id) {
        Ok(Some(user)) => user.name,
        _ => id.to_string(),
    }
}
