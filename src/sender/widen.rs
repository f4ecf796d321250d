//! Further connections for one session.
//!
//! **Purpose:** asks the agent for places, and has a connection join at each.
//! **In → Out:** a transport and places → ways to the agent and their carriers.
//! **Invariants:** connections that do not come are done without, and said; those that came end with the
//! session. **Not here:** what goes over them (`bundle`).

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::bundle::ConnectionWriter;
use super::error::SessionError;
use super::outbox::Outbox;
use super::replies::Handover;
use crate::config::CONNECTIONS_MAX;
use crate::protocol::{FrameError, FrameReader, FrameWriter, MAGIC, ToReceiver, ToSender, read_magic};
use crate::transport::{Control, Ended, Transport, ended_soon};

/// One further connection, and what ends it.
type Joined = (ConnectionWriter, Arc<dyn Control>);

/// The connection that a session begins with.
pub(super) struct First<'a> {
    pub outbox: &'a Outbox,
    pub control: Arc<dyn Control>,
    /// Leads to the thread that hears the replies.
    pub handover: &'a Sender<Handover>,
}

/// Has so many connections in all carry a session. Returns what ends them, and what was missing.
///
/// # Errors
/// [`SessionError`] if the first connection breaks meanwhile; consequence by variant.
pub(super) fn widen(
    transport: &dyn Transport,
    first: First<'_>,
    root: &[u8],
    (wanted, limit): (u8, Duration),
) -> Result<(Arc<dyn Control>, Option<String>), SessionError> {
    let further = wanted.min(CONNECTIONS_MAX).saturating_sub(1);
    let (asked, answer) = bounded(1);
    let _ = first.handover.send(Handover::Places(asked));
    first.outbox.send(&ToReceiver::Widen { connections: further })?;
    first.outbox.flush()?;
    let mut places = match answer.recv_timeout(limit) {
        Ok(places) => places?,
        Err(_) => {
            first.control.kill();
            return Err(SessionError::Silent(limit));
        }
    };
    places.truncate(further.into());
    if places.is_empty() {
        return Ok((first.control, Some("the target's filesystem has no FIFOs".to_owned())));
    }
    let mut why = None;
    let mut joined = Vec::new();
    for one in join(transport, root, &places, limit) {
        match one {
            Ok(one) => joined.push(one),
            Err(error) => why = Some(error.to_string()),
        }
    }
    if joined.is_empty() {
        return Ok((first.control, why));
    }
    let (ways, control) = together(first.control, joined);
    first.outbox.widen(ways)?;
    Ok((control, why))
}

/// Has connections join, all at once: each costs a login.
///
/// Those that do not come within the time have an error in their place.
fn join(
    transport: &dyn Transport,
    root: &[u8],
    places: &[Vec<u8>],
    limit: Duration,
) -> Vec<Result<Joined, SessionError>> {
    let join = |place: &Vec<u8>| join_one(transport, root, place, limit);
    std::thread::scope(|scope| {
        let joining: Vec<_> = places.iter().map(|place| scope.spawn(move || join(place))).collect();
        let died = |_| Err(SessionError::Source("a thread died".to_owned()));
        joining.into_iter().map(|thread| thread.join().unwrap_or_else(died)).collect()
    })
}

fn join_one(
    transport: &dyn Transport,
    root: &[u8],
    place: &[u8],
    limit: Duration,
) -> Result<Joined, SessionError> {
    let link = transport.connect()?;
    let (control, mut way) = (Arc::<dyn Control>::from(link.control), link.writer);
    let (told, heard) = bounded(1);
    let mut from = link.reader;
    std::thread::Builder::new()
        .name("join".to_owned())
        .spawn(move || {
            let answer = read_magic(&mut from).and_then(|()| {
                match FrameReader::new(&mut from).read::<ToSender<'_>>()? {
                    ToSender::Joined => Ok(()),
                    _ => Err(FrameError::Closed),
                }
            });
            let _ = told.send(answer);
            // Nothing more comes; but ssh would not outlive an end that is closed.
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        })
        .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
    let mut writer = FrameWriter::new(&mut way);
    let (root, place) = (root.to_vec(), place.to_vec());
    let said = writer.raw(&MAGIC).and_then(|()| writer.send(&ToReceiver::Join { root, place }));
    let said = said.and_then(|()| writer.flush());
    match heard.recv_timeout(limit) {
        Ok(Ok(())) => {
            said?;
            Ok((way, control))
        }
        Err(RecvTimeoutError::Timeout) => {
            control.kill();
            Err(SessionError::Silent(limit))
        }
        // The carrier's own words say more than a closed pipe.
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
            drop(way);
            Err(SessionError::Ended(ended_soon(&control, || ())))
        }
    }
}

/// The carriers of one session: the first one speaks for all.
struct Carriers {
    first: Arc<dyn Control>,
    further: Vec<Arc<dyn Control>>,
}

impl Control for Carriers {
    fn kill(&self) {
        self.first.kill();
        self.further.iter().for_each(|carrier| carrier.kill());
    }

    fn ended(&self) -> Ended {
        let ended = self.first.ended();
        // Their agents end with the first one's: where that is gone, they have nobody to pass on to.
        self.further.iter().for_each(|carrier| carrier.kill());
        ended
    }
}

/// Returns the ways of connections that came, and what ends them together with the first.
fn together(first: Arc<dyn Control>, joined: Vec<Joined>) -> (Vec<ConnectionWriter>, Arc<dyn Control>) {
    let (ways, further) = joined.into_iter().unzip();
    (ways, Arc::new(Carriers { first, further }))
}
