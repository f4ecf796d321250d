//! What follows from the end of a child, of a function of the user's, and from what a mirror tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::core::{Core, Job, JobKind};
use super::layers;
use super::native::{MirrorWord, State};
use super::observe::observe;
use crate::config::{Handler, Verdict};

/// Hands a function of the user's over.
pub fn send_job(core: &mut Core, jobs: &Sender<Job>, job: Job) {
    if let Some(sync) = job.sync.and_then(|at| core.syncs.get_mut(at)) {
        sync.job = Some(Instant::now());
        sync.told = false;
    }
    if jobs.try_send(job).is_err() {
        core.die("too many Lua functions wait to be run");
    }
}

/// Judgements by the user that wait for another function of the same sync.
pub type Collects = HashMap<usize, Vec<Job>>;

/// Has the end of a child judged, by the layer or by the user.
pub fn ended_child(
    core: &mut Core,
    jobs: &Sender<Job>,
    waiting: &mut Collects,
    (at, ids, list, ended): (usize, Vec<u64>, bool, Result<i32, i32>),
) {
    let handler = core.syncs.get(at).map(|sync| sync.spec.collect.clone());
    let Some(Handler::Lua(function)) = handler else {
        let verdict = layers::judge(core, at, &ids, list, ended);
        core.judged(at, &ids, verdict);
        return;
    };
    let code = ended.unwrap_or_else(|signal| 128 + signal);
    let job = Job { sync: Some(at), kind: JobKind::Collect { ids, list, code }, function };
    if core.syncs.get(at).is_some_and(|sync| sync.job.is_some()) {
        waiting.entry(at).or_default().push(job);
    } else {
        send_job(core, jobs, job);
    }
}

/// Takes what a mirror tells; a `hopeless` one that cannot connect ends everything.
pub fn heard_of_mirror(core: &mut Core, at: usize, heard: MirrorWord, hopeless: bool) {
    let Some(sync) = core.syncs.get_mut(at) else { return };
    let spec = Arc::clone(&sync.spec);
    let State::Mirror(_, live) = &mut sync.state else { return };
    match heard {
        MirrorWord::Line { category, text } => core.log.line(category, &text),
        MirrorWord::Live => {
            let first = !std::mem::replace(live, true);
            if first {
                core.normal(&format!("Startup of {} finished.", layers::pair(&spec)));
            }
        }
        MirrorWord::Down if hopeless && !*live => core.die("Critical exitcode."),
        MirrorWord::Down => {}
    }
}

/// Takes the end of a function of the user's.
pub fn done(
    core: &mut Core,
    jobs: &Sender<Job>,
    waiting: &mut Collects,
    job: Job,
    result: Result<Option<Verdict>, String>,
) {
    if let JobKind::Ready(fd) = job.kind {
        observe(fd, core);
    }
    if let Some(sync) = job.sync.and_then(|at| core.syncs.get_mut(at)) {
        sync.job = None;
    }
    let verdict = match result {
        Ok(verdict) => verdict,
        Err(text) => return core.blame(job.sync, &format!("in Lua: {text}")),
    };
    let Some(at) = job.sync else { return };
    match job.kind {
        JobKind::Collect { ids, .. } => core.judged(at, &ids, verdict),
        JobKind::On(id) if core.waits(at, id) => core.discard(at, id),
        JobKind::Whole(id) if core.waits(at, id) => {
            rest(core, at, "init neither spawned on its event nor discarded it");
        }
        JobKind::Action
            if core
                .syncs
                .get(at)
                .is_some_and(|sync| sync.due(Instant::now()).is_some() && sync.children == 0) =>
        {
            // It may have taken one event of several; only one that takes none is kept from spinning.
            rest_briefly(core, at);
        }
        _ => {}
    }
    if let Some(jobs_of) = waiting.get_mut(&at).filter(|list| !list.is_empty()) {
        let job = jobs_of.remove(0);
        send_job(core, jobs, job);
    }
}

fn rest(core: &mut Core, at: usize, text: &str) {
    let Some(sync) = core.syncs.get_mut(at) else { return };
    sync.rest = Some(Instant::now() + Duration::from_secs(1));
    let name = sync.spec.name.clone();
    core.log.line("Warn", &format!("{name}: {text}"));
}

fn rest_briefly(core: &mut Core, at: usize) {
    if let Some(sync) = core.syncs.get_mut(at) {
        sync.rest = Some(Instant::now() + Duration::from_millis(2));
    }
}
