//! The limits of a stop.
//!
//! **Purpose:** whatever a session's threads are blocked in when its mailbox is closed, its connection is ended
//! in time. **In → Out:** a session and its carrier; the carrier ended, if the session does not end by itself.
//! **Invariants:** what was not acknowledged is compared by the next start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::monitor::Notice;
use crate::transport::Control;

/// Longest stop with something in flight.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest stop with nothing in flight, and where the target does not answer.
const SHORTEST: Duration = Duration::from_millis(1500);
/// A target that owes an answer for so long does not answer.
const SILENT: Duration = Duration::from_secs(5);
/// After this it is said what is waited for.
const TELL_AFTER: Duration = Duration::from_millis(500);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Has the carrier of a session ended in time once its mailbox is closed. What this returns is held for as long as
/// the session works.
pub(super) fn limit(shared: &Arc<Shared>, control: &Arc<dyn Control>) -> Arc<()> {
    let works = Arc::new(());
    let (ended, shared_in, control) = (Arc::downgrade(&works), Arc::downgrade(shared), Arc::clone(control));
    let enforce = move || {
        let Some(shared) = shared_in.upgrade() else { return };
        let spare = Arc::clone(&control);
        let thread = std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
            enforce(&shared, &*control, &|| ended.strong_count() == 0);
        });
        if thread.is_err() {
            spare.kill();
        }
    };
    shared.mailbox.on_close(enforce);
    works
}

fn enforce(shared: &Shared, control: &dyn Control, is_over: &dyn Fn() -> bool) {
    let began = Instant::now();
    let (mut told, mut killed) = (false, false);
    while !is_over() {
        if killed {
            // What it has answered is compared as well, and may be more than is looked at in time.
            let mut inbox = shared.inbox();
            inbox.replies.clear();
            inbox.weight = 0;
            drop(inbox);
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        let now = Instant::now();
        let out = shared.mailbox.pending().out;
        let heard = shared.inbox().heard;
        // It owes an answer since the later of both. A pass without a change under way owes none.
        let sent = out.since.debt.filter(|_| out.changes > 0);
        let owes = sent.map(|sent| heard.map_or(sent, |heard| heard.max(sent)));
        let answers = owes.is_some_and(|since| now.saturating_duration_since(since) < SILENT);
        if now.duration_since(began) >= if answers { LONGEST } else { SHORTEST } {
            if out.changes > 0 {
                let text =
                    format!("stopped without an answer to {}; compared at the next start", owed(out.changes));
                shared.notice(&Notice::Warning { text, hint: None });
            }
            control.kill();
            killed = true;
            continue;
        }
        if answers && !told && now.duration_since(began) >= TELL_AFTER {
            told = true;
            let text = format!(
                "stopping: waiting up to {} s for the target to acknowledge {}",
                LONGEST.as_secs(),
                owed(out.changes)
            );
            shared.notice(&Notice::Message { text });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn owed(changes: usize) -> String {
    if changes == 1 { "1 change".to_owned() } else { format!("{changes} changes") }
}
