//! `speil wait`: until what was written before the call is durable on the targets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pipeline::{Owed, Pipeline};
use super::settler::Settler;
use super::slot::{LeftOut, Running};
use super::target::RunningTarget;
use crate::monitor::{counted, sized};
use crate::role::Role;
use crate::sender::TargetState;
use crate::status::{Answer, Quorum, Wait};

/// How often it is looked whether the targets are in step.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After so many looks the paths that fail are tried again at once.
const RETRY_LOOKS: u32 = 100;
/// After so many looks the sessions are told anew up to when everything was heard.
const HEAR_LOOKS: u32 = 3;
/// Longest time for the watch and the engine to say that nothing is left in their queues.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// Why a target is not in step.
struct Laggard {
    who: String,
    why: String,
    /// Whether there is no connection.
    down: bool,
    /// Whether nobody need wait for it: the source sends nothing until somebody promotes it.
    ends: bool,
}

/// The syncs that are waited for, each with the moment up to which it is.
type Moments = Vec<(String, Option<Instant>)>;

/// Waits until everything that was written before the call is durable on as many targets as were asked
/// for, of every sync that was. Cancel safe.
pub(super) async fn wait(running: &Mutex<Vec<Running>>, request: Wait) -> Answer {
    let running = || running.lock().unwrap_or_else(PoisonError::into_inner);
    let deadline = request.timeout_ms.map(|limit| Instant::now() + Duration::from_millis(limit));
    let settlers = match settlers(&running(), &request) {
        Ok(settlers) => settlers,
        Err(refused) => return refused,
    };
    let left = deadline.map_or(SETTLE_MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let limit = left.min(SETTLE_MAX);
    let settlers = Arc::new(settlers);
    let asked = Arc::clone(&settlers);
    let settling = tokio::task::spawn_blocking(move || settle_all(&asked, limit));
    let moments = match settling.await {
        Ok(moments) => moments,
        Err(error) => return Answer::Failed { error: error.to_string(), code: 12 },
    };
    let mut looks = 0_u32;
    loop {
        let laggard = laggard(&running(), &request, &moments);
        let Some(laggard) = laggard else { return Answer::Done { count: moments.len() } };
        if laggard.ends || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let code = if laggard.down { 12 } else { 30 };
            return Answer::Failed { error: format!("{}: {}", laggard.who, laggard.why), code };
        }
        if looks.is_multiple_of(RETRY_LOOKS) {
            retry_problems(&running(), &moments);
        }
        looks += 1;
        if looks.is_multiple_of(HEAR_LOOKS) {
            let asked = Arc::clone(&settlers);
            let _ = tokio::task::spawn_blocking(move || hear_all(&asked, limit)).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns what settles each sync that is waited for; `None` for one that has not started.
fn settlers(running: &[Running], request: &Wait) -> Result<Vec<(String, Option<Settler>)>, Answer> {
    let usage = |error: String| Err(Answer::Failed { error, code: 1 });
    let mut found = Vec::new();
    for slot in running {
        let (sync, settler) = match slot {
            Running::Up(pipeline) => (&pipeline.sync, pipeline.settler()),
            Running::Waiting(waiting) => (&waiting.sync, None),
            Running::LeftOut(LeftOut { name, error }) => {
                if request.sync.as_ref().is_some_and(|asked| asked != name) {
                    continue;
                }
                // Nobody need wait for it: only a new configuration helps.
                return Err(Answer::Failed { error: format!("{name}: not started: {error}"), code: 12 });
            }
        };
        if request.sync.as_ref().is_some_and(|name| *name != sync.name) {
            continue;
        }
        match &request.targets {
            Quorum::Count(count) if *count > sync.targets.len() => {
                return usage(format!(
                    "sync {:?} has {} targets, {count} were asked for",
                    sync.name,
                    sync.targets.len()
                ));
            }
            Quorum::Named(names) => {
                let known: Vec<&str> = sync.targets.iter().map(|target| target.name.as_str()).collect();
                if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
                    return usage(format!(
                        "sync {:?} has no target {name:?}; it has {}",
                        sync.name,
                        known.join(", ")
                    ));
                }
            }
            _ => {}
        }
        found.push((sync.name.clone(), settler));
    }
    match (&request.sync, found.is_empty()) {
        (Some(name), true) => usage(format!("no sync is called {name:?}")),
        (None, true) => Err(Answer::Failed { error: "no sync is running".to_owned(), code: 12 }),
        _ => Ok(found),
    }
}

/// Has what failed tried at once: the pauses between tries are for when nobody waits.
fn retry_problems(running: &[Running], moments: &Moments) {
    for slot in running {
        let Running::Up(pipeline) = slot else { continue };
        let moment = moments.iter().find(|(name, _)| *name == pipeline.sync.name);
        let Some((_, Some(moment))) = moment else { continue };
        for running in &pipeline.targets {
            running.status.hurry(*moment);
            running.mailbox.wake();
        }
    }
}

/// Settles all syncs side by side; each has a moment of its own.
fn settle_all(settlers: &[(String, Option<Settler>)], limit: Duration) -> Moments {
    std::thread::scope(|scope| {
        let running: Vec<_> = settlers
            .iter()
            .map(|(name, settler)| {
                (name, settler.as_ref().map(|settler| scope.spawn(move || settler.settle(limit))))
            })
            .collect();
        running
            .into_iter()
            .map(|(name, thread)| (name.clone(), thread.and_then(|thread| thread.join().ok()).flatten()))
            .collect()
    })
}

fn hear_all(settlers: &[(String, Option<Settler>)], limit: Duration) {
    settlers.iter().filter_map(|(_, settler)| settler.as_ref()).for_each(|settler| settler.hear(limit));
}

/// Returns a target that is missing for what was asked; `None` if there are enough.
fn laggard(running: &[Running], request: &Wait, moments: &Moments) -> Option<Laggard> {
    for (name, moment) in moments {
        let up = running.iter().find_map(|slot| match slot {
            Running::Up(pipeline) if pipeline.sync.name == *name => Some(pipeline),
            _ => None,
        });
        let Some(pipeline) = up else {
            let why = "not started: the source cannot be opened".to_owned();
            return Some(Laggard { who: name.clone(), why, down: true, ends: false });
        };
        let Some(moment) = moment else {
            let why = "the watch did not answer".to_owned();
            return Some(Laggard { who: name.clone(), why, down: false, ends: false });
        };
        if let Some(why) = sends_nothing(pipeline) {
            return Some(Laggard { who: name.clone(), why, down: true, ends: true });
        }
        let picked = pipeline.targets.iter().filter(|running| match &request.targets {
            Quorum::Named(names) => names.contains(&running.target.name),
            _ => true,
        });
        let picked: Vec<&RunningTarget> = picked.collect();
        let mut behind: Vec<Laggard> =
            picked.iter().filter_map(|running| what_is_left(pipeline, running, *moment, request)).collect();
        let done = picked.len() - behind.len();
        let wanted = match &request.targets {
            Quorum::Count(count) => *count,
            Quorum::All | Quorum::Named(_) => picked.len(),
        };
        if done < wanted {
            // One that is merely behind says more than one that is known to be down.
            behind.sort_by_key(|laggard| laggard.down);
            return behind.into_iter().next();
        }
    }
    None
}

/// Returns why the source sends nothing, if it has a role and does not lead, or should have one. The role is read anew: one that was
/// promoted just now leads, whatever its links say yet.
pub(super) fn sends_nothing(pipeline: &Pipeline) -> Option<String> {
    if let Some(line) = pipeline.has_no_role_yet() {
        return Some(line);
    }
    let (role, n) = pipeline.role().filter(|_| pipeline.leads().is_none())?;
    if role == Role::Primary {
        let errors = || pipeline.targets.iter().find_map(|running| running.status.error());
        return Some(
            errors().unwrap_or_else(|| "the source does not lead any more and sends nothing".to_owned()),
        );
    }
    let at = n.map(|n| format!(" at generation {n}")).unwrap_or_default();
    let who = match pipeline.led_by() {
        Some(leader) => format!("its changes come from {leader}"),
        None => "its primary is not connected".to_owned(),
    };
    Some(format!("the source is a standby{at} and sends nothing: {who}"))
}

/// Returns why a target does not hold everything up to a moment.
fn what_is_left(
    pipeline: &Pipeline,
    running: &RunningTarget,
    moment: Instant,
    request: &Wait,
) -> Option<Laggard> {
    // Before the state: what is owed by a session that has just ended is in the state of the next.
    let owed = pipeline.owed(running);
    let who = format!("{} → {}", pipeline.sync.name, running.target.name);
    let laggard = |why: String, down| Some(Laggard { who: who.clone(), why, down, ends: false });
    let paused = running.mailbox.is_paused();
    if !request.despite_problems {
        if let Some((count, reason)) = running.held.summary() {
            return laggard(
                format!("{} held: {reason}", counted(count as u64, "delete is", "deletes are")),
                false,
            );
        }
        let mut problems = running.status.problems().into_iter();
        // A change from after the moment may fail as it likes.
        if let Some((path, problem)) = problems.find(|(_, problem)| problem.since <= moment) {
            let error = crate::error::failure_text(&problem.operation, problem.errno);
            return laggard(format!("{} {path}: {error}; tried again by itself", problem.operation), false);
        }
    }
    match running.status.state().0 {
        TargetState::Live => {}
        _ if paused => return laggard("paused".to_owned(), false),
        TargetState::Standby => return laggard("the source is a standby and sends nothing".to_owned(), true),
        TargetState::FirstPass => return laggard("the first pass is under way".to_owned(), false),
        _ => {
            let error =
                running.status.error().map_or_else(|| "not connected".to_owned(), |e| format!("down: {e}"));
            return laggard(error, true);
        }
    }
    if pipeline.leads().is_some_and(|generation| !running.known.follows(generation)) {
        return laggard("the target is not in step with the source's generation yet".to_owned(), false);
    }
    let held = if paused { "paused, and " } else { "" };
    match owed {
        Owed::Since(None) => None,
        Owed::Since(Some(since)) if since > moment => None,
        Owed::Since(Some(since)) => {
            let age = since.elapsed().as_secs_f64();
            let doubts = match running.status.suspects.totals() {
                (0, _) => String::new(),
                (files, bytes) => {
                    format!("; {}, {}, to be verified", counted(files, "file", "files"), sized(bytes))
                }
            };
            laggard(format!("{held}not in step, {age:.1} s behind{doubts}"), false)
        }
        Owed::Moving => laggard(format!("{held}not in step"), false),
    }
}
