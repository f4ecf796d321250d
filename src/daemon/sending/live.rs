//! The far side of a live pull: the pipeline of a mirror, whose one target is at the other end of this connection.
//!
//! **In → Out:** what the order says of a live mirror; changes, until the connection ends or somebody stops it, and
//! answers to what the other side asks. **Invariants:** nothing is written on this host, and what the process was
//! confined to is what it watches; only what concerns the mirror is answered; it makes no second connection: the side
//! that pulls starts another process.

use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::chronicle::Chronicle;
use super::super::far::{Far, Said, Wire};
use super::super::hub::Hub;
use super::super::link_options::Over;
use super::super::onlooker::Nobody;
use super::super::pipeline::Pipeline;
use super::super::slot::Running;
use super::{SendError, Words, failure, own};
use crate::config::Sync;
use crate::event::RescanReason;
use crate::monitor::{Monitor, Silent};
use crate::protocol::{Account, FrameReader, FromFar, PullLive};
use crate::sender::{SessionError, Source, see_upstream};
use crate::status::{Answer, Request};
use crate::transport::Transport;
use crate::watch;

/// Things that wait to be looked at; whoever says more waits.
const WAITING_MAX: usize = 64;
/// An end waits so long for a pipeline that is being started.
const START_STOP: Duration = Duration::from_secs(1);

/// What there is to look at.
enum News {
    Said(Said),
    /// The session has ended.
    Ended(Option<SessionError>),
    /// Another directory is under the source's path.
    Replaced,
}

/// Returns a sync as a live mirror has it.
pub(super) fn sync_of(live: &PullLive, sync: Sync) -> Sync {
    let (delay, max_delay, max_open) = live.delays_ms;
    let (name, target) = live.names.clone();
    // What the side that pulls refuses to remove is not renamed there either.
    let moves = sync.delete.live();
    let mut sync = Sync {
        name,
        delay: Duration::from_millis(delay),
        max_delay: Duration::from_millis(max_delay),
        max_open: Duration::from_millis(max_open),
        watch: live.watch,
        poll_interval: Duration::from_millis(live.poll_ms),
        moves,
        ..sync
    };
    sync.reconcile.interval = live.interval_ms.map(Duration::from_millis);
    sync.targets.iter_mut().for_each(|it| it.name.clone_from(&target));
    sync
}

/// Looks at what there is no way to once the process is confined.
pub(super) fn prepare(live: &PullLive, sync: &mut Sync, source: &Arc<Source>) -> Result<(), SendError> {
    see_upstream(source.path());
    watch::prepare().map_err(own("open the list of mounts"))?;
    // A mark on the whole filesystem would tell of what is outside.
    sync.watch = watch::resolve(live.watch, source.path()).unwrap_or(live.watch);
    Ok(())
}

/// Mirrors until the connection ends or the other side stops it, and tells how it ended.
pub(super) fn run(
    live: &PullLive,
    (sync, source): (Sync, Arc<Source>),
    (reader, wire): (FrameReader<BufReader<impl Read + Send + 'static>>, Arc<Wire>),
    (words, monitor): (Words, Arc<dyn Monitor>),
) -> Result<(), SendError> {
    let far = Far::new(Arc::clone(&wire));
    let (tell, news) = mpsc::channel(WAITING_MAX);
    let (ear, said, teller) = (far.ear(), tell.clone(), Arc::clone(&wire));
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let hears = move || ear.hear(reader, |what| drop(said.blocking_send(News::Said(what))));
    thread("hear").spawn(hears).map_err(own("start a thread"))?;
    thread("tell").spawn(move || teller.keep_telling()).map_err(own("start a thread"))?;
    let replaced = tell.clone();
    // Once is enough, and whoever tells it must not wait.
    source.when_replaced(move || drop(replaced.try_send(News::Replaced)));
    let over = Over {
        transport: Arc::new(far) as Arc<dyn Transport>,
        reason: if live.again { RescanReason::Reconnect } else { RescanReason::Start },
        ended: Box::new(move |error| drop(tell.blocking_send(News::Ended(error)))),
    };
    let hub = Arc::new(Hub::new(monitor, Arc::new(Nobody), Chronicle::new(None, 0, Arc::new(Silent))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(own("start"))?;
    let (done, started) = oneshot::channel();
    let (starting, paused) = (Arc::clone(&hub), live.paused);
    let start = move || {
        let begun = starting.start_over(sync, (source, over));
        if let Some(Ok(pipeline)) = &begun {
            pipeline.pause(paused);
        }
        drop(done.send(begun));
    };
    thread("start").spawn(start).map_err(own("start a thread"))?;
    let error = runtime.block_on(until_it_ends(&hub, started, news, &wire));
    hub.stop_starting();
    hub.stop_all();
    // A request that waits for something is not waited for.
    runtime.shutdown_background();
    let failure = error.as_ref().map(|error| failure(error, words));
    wire.send(&FromFar::Done(Box::new(Account { failure, ..Account::default() })))?;
    Ok(())
}

/// What comes of a start; nothing if it was stopped.
type Begun = Option<Result<Pipeline, SessionError>>;

/// Looks at what comes until there is an end. Returns why, if nobody asked for it.
async fn until_it_ends(
    hub: &Arc<Hub>,
    mut started: oneshot::Receiver<Begun>,
    mut news: mpsc::Receiver<News>,
    wire: &Arc<Wire>,
) -> Option<SessionError> {
    let (mut is_up, mut asked) = (false, Vec::new());
    loop {
        tokio::select! {
            begun = &mut started, if !is_up => match begun {
                Ok(Some(Ok(pipeline))) => {
                    hub.running().push(Running::Up(Box::new(pipeline)));
                    is_up = true;
                    asked.drain(..).for_each(|(id, request)| answer(hub, wire, id, request));
                }
                Ok(Some(Err(error))) => return Some(error),
                Ok(None) => return None,
                Err(_) => return Some(SessionError::Fatal("a thread died".to_owned())),
            },
            heard = news.recv() => match heard {
                Some(News::Said(Said::Ask(id, request))) if is_up => answer(hub, wire, id, request),
                // Of a mirror that is being started nothing can be said yet.
                Some(News::Said(Said::Ask(id, request))) => {
                    asked.push((id, request));
                    asked.truncate(WAITING_MAX);
                }
                Some(News::Ended(error)) => return error,
                Some(News::Replaced) => {
                    let text = "another directory is under its path now; it is opened anew".to_owned();
                    return Some(SessionError::Source(text));
                }
                Some(News::Said(Said::Stop)) | None => {
                    if !is_up {
                        hub.stop_starting();
                        let _ = tokio::time::timeout(START_STOP, &mut started).await;
                    }
                    return None;
                }
            },
        }
    }
}

/// Answers in its own time.
fn answer(hub: &Arc<Hub>, wire: &Arc<Wire>, id: u64, request: Vec<u8>) {
    let (hub, wire) = (Arc::clone(hub), Arc::clone(wire));
    tokio::spawn(async move {
        let answer = match serde_json::from_slice::<Request>(&request) {
            Ok(request) if is_for_mirror(&request) => hub.answer(request).await,
            _ => Answer::Failed { error: "the source's host answers no such request".to_owned(), code: 1 },
        };
        let answer = serde_json::to_vec(&answer).unwrap_or_default();
        let send = move || drop(wire.send(&FromFar::Answer { id, answer: answer.into() }));
        let _ = tokio::task::spawn_blocking(send).await;
    });
}

/// Whether a request is about the mirror alone. What a path is, only whoever may read it is told: by the mirror itself.
fn is_for_mirror(request: &Request) -> bool {
    matches!(
        request,
        Request::Status
            | Request::Wait(_)
            | Request::Reconcile { .. }
            | Request::Pause { .. }
            | Request::Resume { .. }
            | Request::Retry { .. }
            | Request::Approve { .. }
            | Request::Discard { .. }
    )
}
