//! Telling the target how the mirror does, for who asks there.

use std::time::{Duration, Instant};

use super::error::SessionError;
use super::origin::{gives_way, origin, upstream};
use super::session::Session;
use crate::protocol::{
    Refusal, ReplyHello, RootPlace, Stated, ToReceiver, Tree, VERSION_ORIGIN, VERSION_STATE, circle,
};

/// A lag that changes is stated this often.
const STATE_EVERY: Duration = Duration::from_secs(1);
/// One that does not, this often: a sign of life. Another daemon takes the target over after 5 s without one.
const STATE_AT_LEAST: Duration = Duration::from_secs(3);

/// What was stated last, and when.
#[derive(Default)]
pub(super) struct Stating {
    last: Option<(Instant, Stated)>,
    /// The trees from which the source is mirrored, as the target was told; `None` before that.
    upstream: Option<Vec<Tree>>,
    /// Since when the source is seen to be mirrored from the target.
    circle: Option<Instant>,
    /// Where the target's root is.
    root: RootPlace,
    /// The number of the mark that was stated last.
    pub position: Option<u64>,
}

impl Stating {
    /// Begins with where a greeting says that the target's root is.
    pub fn new(reply: &ReplyHello) -> Self {
        let root = RootPlace { boot_id: reply.boot_id.clone(), lineage: reply.lineage.clone() };
        Self { root, ..Self::default() }
    }

    /// When something is to be stated again, `stated` being how things are.
    fn due(&self, stated: &Stated) -> Option<Instant> {
        let (at, before) = self.last.as_ref()?;
        // Nobody may take the first copy for incomplete who has just been told by `speil wait` that it is whole.
        if before.lag_ms.is_none() && stated.lag_ms.is_some() {
            return None;
        }
        Some(*at + if before == stated { STATE_AT_LEAST } else { STATE_EVERY })
    }
}

impl Session {
    /// States how the mirror does if it is time, and returns when to look again; `None` where the peer
    /// does not want to know.
    pub(super) fn state(&mut self, now: Instant) -> Result<Option<Instant>, SessionError> {
        if self.shared.version < VERSION_STATE || !self.shared.options.live {
            return Ok(None);
        }
        self.state_first()?;
        let since = self.shared.mailbox.pending().since.lag;
        let lag = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let known = self.stepping.is_live() || self.shared.status.is_known();
        let stated = Stated {
            lag_ms: known.then(|| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            paused: self.shared.mailbox.is_paused(),
        };
        if let Some(due) = self.stating.due(&stated).filter(|due| *due > now) {
            // A lag grows by itself; what else changes wakes the session.
            return Ok(Some(if since.is_some() { due.min(now + STATE_EVERY) } else { due }));
        }
        self.stating.last = Some((now, stated));
        self.shared.outbox.send(&ToReceiver::State(stated))?;
        self.state_upstream(now)?;
        self.state_watermark(now, false)?;
        self.state_cut(now)?;
        self.shared.outbox.flush()?;
        Ok(Some(now + if since.is_some() { STATE_EVERY } else { STATE_AT_LEAST }))
    }
}

impl Session {
    /// Tells the target from where its source is mirrored if that has changed. A mirror that has come to be
    /// part of a circle ends if it is the one that [`gives_way`]: the targets behind it hear of it in the same way.
    fn state_upstream(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.shared.version < VERSION_ORIGIN {
            return Ok(());
        }
        let holder = upstream(&self.shared.options.sync.source).unwrap_or_default();
        if self.stating.upstream.as_ref() == Some(&holder.chain) {
            self.stating.circle = None;
            return Ok(());
        }
        let Some(mut trees) = circle(&holder.chain, &self.stating.root) else {
            self.shared.outbox.send(&ToReceiver::Upstream(holder.chain.clone()))?;
            (self.stating.upstream, self.stating.circle) = (Some(holder.chain), None);
            return Ok(());
        };
        let since = *self.stating.circle.get_or_insert(now);
        if gives_way(&holder, since, now) {
            trees.push(origin(&self.shared.options).name);
            return Err(SessionError::Refused(Refusal::Circle { trees }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_that_changes_is_stated_each_second_and_one_that_stands_still_as_a_sign_of_life() {
        let start = Instant::now();
        let stated = |lag| Stated { lag_ms: Some(lag), paused: false };
        let mut stating = Stating::default();
        assert_eq!(stating.due(&stated(0)), None);
        stating.last = Some((start, stated(0)));
        assert_eq!(stating.due(&stated(0)), Some(start + STATE_AT_LEAST));
        assert_eq!(stating.due(&stated(5)), Some(start + STATE_EVERY));
        stating.last = Some((start, Stated { lag_ms: None, paused: false }));
        assert_eq!(stating.due(&stated(0)), None, "the first copy is complete");
    }
}
