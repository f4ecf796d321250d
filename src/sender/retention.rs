//! Asking a target what it keeps, and having it put back.

use super::dialogue::{Dialogue, Heard, odd};
use super::error::SessionError;
use super::hello::hello;
use super::session::SessionOptions;
use crate::protocol::{Errand, KeptEntry, Order, RootPlace, ToReceiver, VERSION_KEPT, VERSION_RESTORE};
use crate::transport::Transport;

/// What is asked of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// What is kept; a mirror may be at work meanwhile.
    List,
    /// What would be put back.
    Plan,
    /// To put it back.
    Undo,
}

/// What a target says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// An entry is kept, or was put back.
    Kept(KeptEntry),
    /// An entry was put into the trash: nothing was there at that moment.
    Gone(KeptEntry),
    /// So many more paths are as they were.
    Already(u64),
}

/// Asks a target about what it keeps; `tell` hears of each entry. An agent that cannot plan lists all
/// that is kept. Returns what went wrong beside them,
/// in words.
///
/// # Errors
/// [`SessionError`], as for a session; also for an agent that keeps nothing yet.
pub fn keeper(
    transport: &dyn Transport,
    options: &SessionOptions,
    (ask, order): (Ask, &Order),
    tell: &mut dyn FnMut(Word),
) -> Result<Vec<String>, SessionError> {
    match attempt(transport, options, (ask, order), tell) {
        Err(SessionError::Ended(ended)) if transport.mend(&ended)? => {
            attempt(transport, options, (ask, order), tell)
        }
        other => other,
    }
}

fn attempt(
    transport: &dyn Transport,
    options: &SessionOptions,
    (ask, order): (Ask, &Order),
    tell: &mut dyn FnMut(Word),
) -> Result<Vec<String>, SessionError> {
    Dialogue::hold(transport, options.sync.timeout, |talk| {
        let nowhere = RootPlace { boot_id: String::new(), lineage: Vec::new() };
        let mut hello = hello(options, nowhere);
        hello.terms.errand = Errand::Keeper;
        hello.dry_run = ask != Ask::Undo;
        hello.force_root = true;
        let greeting = talk.greet(hello)?;
        if greeting.version < VERSION_KEPT {
            let text = format!("speil {:?} on the target keeps nothing: upgrade it", greeting.program);
            return Err(SessionError::Fatal(text));
        }
        talk.say(&match ask {
            Ask::Plan | Ask::Undo if greeting.version >= VERSION_RESTORE => {
                ToReceiver::Restore(order.clone())
            }
            Ask::List | Ask::Plan => ToReceiver::Kept(order.clone()),
            Ask::Undo => ToReceiver::Undo(order.clone()),
        })?;
        let mut wrong = Vec::new();
        loop {
            match talk.hear()? {
                Heard::Kept(entries, last) => {
                    entries.into_iter().map(Word::Kept).for_each(&mut *tell);
                    if last {
                        break;
                    }
                }
                Heard::AsItWas(gone, already) => {
                    gone.into_iter().map(Word::Gone).for_each(&mut *tell);
                    tell(Word::Already(already));
                }
                Heard::Problem(text) => wrong.push(text),
                _ => return Err(odd()),
            }
        }
        // A goodbye that does not arrive costs nothing.
        let _ = talk.say(&ToReceiver::Bye);
        Ok(wrong)
    })
}
