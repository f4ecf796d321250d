//! Marks of a source for who wants to read his own upload on a standby.
//!
//! **In → Out:** a client that has just written; a token that the standbys' `speil health` understands.
//! **Invariants:** everything that was written before the call lies before the mark. Those who ask while one is being
//! made share the next one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::marking::Marking;
use super::pipeline::{Owed, Pipeline};
use super::settler::Settler;
use super::slot::Running;
use super::waiting::sends_nothing;
use crate::protocol::Position;
use crate::sender::{Lead, Mailbox, TargetState};
use crate::status::Answer;

/// Longest time for the watch and the engine to say that nothing is left in their queues.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// How often the sessions are told anew up to when everything was heard, while a target has not reached the newest mark.
const HEAR_EVERY: Duration = Duration::from_millis(5);
/// For how long: then the marks of the watch do it.
const HEAR_MAX: Duration = Duration::from_secs(10);

/// What runs.
type Syncs = Arc<Mutex<Vec<Running>>>;

fn locked(running: &Syncs) -> MutexGuard<'_, Vec<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a mark of one sync is made with.
struct Asked {
    marking: Arc<Marking>,
    settler: Arc<Settler>,
    lead: Arc<Lead>,
    mailboxes: Vec<Arc<Mailbox>>,
    name: String,
    generation: u64,
}

/// Makes a mark behind everything that was written before the call; returns its token. Cancel safe.
pub(super) async fn ask(running: &Syncs, sync: Option<&str>) -> Answer {
    let asked_at = Instant::now();
    let found = find(&locked(running), sync);
    let asked = match found {
        Ok(asked) => asked,
        Err((error, code)) => return Answer::Failed { error, code },
    };
    let mut turn = asked.marking.turn.lock().await;
    let shared = turn.filter(|(begun, _)| *begun >= asked_at);
    let mark = match shared {
        Some((_, mark)) => mark,
        None => {
            let (begun, settler) = (Instant::now(), Arc::clone(&asked.settler));
            let settled = tokio::task::spawn_blocking(move || settler.settle(SETTLE_MAX)).await;
            let Some(until) = settled.ok().flatten() else {
                let error = format!("{}: the watch did not answer", asked.name);
                return Answer::Failed { error, code: 30 };
            };
            let mark = asked.lead.positions().mark(until);
            *turn = Some((begun, mark));
            mark
        }
    };
    drop(turn);
    asked.mailboxes.iter().for_each(|mailbox| mailbox.wake());
    if !asked.marking.is_followed.swap(true, Ordering::AcqRel) {
        tokio::spawn(follow(Arc::clone(running), asked.name.clone(), Arc::clone(&asked.marking)));
    }
    Answer::Position { position: Position { generation: asked.generation, mark }.to_string() }
}

fn find(running: &[Running], sync: Option<&str>) -> Result<Asked, (String, u8)> {
    let mut named = running.iter().filter(|slot| sync.is_none_or(|name| slot.name() == name));
    let Some(slot) = named.next() else {
        return Err(match sync {
            Some(name) => (format!("no sync is called {name:?}"), 1),
            None => ("no sync is running".to_owned(), 12),
        });
    };
    if named.next().is_some() {
        let names: Vec<&str> = running.iter().map(Running::name).collect();
        return Err((format!("which sync? {}", names.join(", ")), 1));
    }
    let name = slot.name().to_owned();
    let not_started = || (format!("{name}: not started"), 12);
    let Running::Up(pipeline) = slot else { return Err(not_started()) };
    if let Some(why) = sends_nothing(pipeline) {
        return Err((format!("{name}: {why}"), 12));
    }
    let settler = Arc::new(pipeline.settler().ok_or_else(not_started)?);
    let generation = pipeline.role().and_then(|(_, n)| n).unwrap_or(0);
    let (marking, lead) = (Arc::clone(&pipeline.marking), pipeline.lead());
    Ok(Asked { marking, settler, lead, mailboxes: pipeline.mailboxes(), name, generation })
}

/// Has the sessions know what was heard until the targets in reach have the newest mark: an edit remains owed until
/// everything that could explain what was seen of it was heard.
async fn follow(running: Syncs, name: String, marking: Arc<Marking>) {
    loop {
        let settler = lagging(&locked(&running), &name);
        let Some(settler) = settler else { break };
        let _ = tokio::task::spawn_blocking(move || settler.hear(HEAR_MAX)).await;
        tokio::time::sleep(HEAR_EVERY).await;
    }
    marking.is_followed.store(false, Ordering::Release);
}

/// Returns what has a sync's sessions know what was heard, if a target in reach lacks the newest mark.
fn lagging(running: &[Running], name: &str) -> Option<Settler> {
    let up = running.iter().find_map(|slot| match slot {
        Running::Up(pipeline) if pipeline.sync.name == name => Some(pipeline),
        _ => None,
    });
    let pipeline: &Pipeline = up?;
    let until = pipeline.lead().positions().until().filter(|until| until.elapsed() < HEAR_MAX)?;
    let lacks = pipeline.targets.iter().any(|running| {
        running.status.state().0 == TargetState::Live
            && match pipeline.owed(running) {
                Owed::Since(since) => since.is_some_and(|since| since <= until),
                Owed::Moving => true,
            }
    });
    // What was just told of wakes who states it.
    pipeline.mailboxes().iter().for_each(|mailbox| mailbox.wake());
    lacks.then(|| pipeline.settler()).flatten()
}
