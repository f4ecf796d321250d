//! Ending what a transport is doing, from another thread.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::{Control, TransportError};

/// How often who waits looks whether it is to go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What ends one thing that is under way; a call when that has ended does nothing.
type End = Box<dyn Fn() + Send>;

/// Everything that one transport has under way.
#[derive(Default)]
pub(super) struct Cancel {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    cancelled: bool,
    ends: Vec<End>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancel")
    }
}

impl Cancel {
    /// Ends everything, and what is yet to begin.
    pub fn cancel(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.cancelled = true;
        inner.ends.drain(..).for_each(|end| end());
    }

    pub fn is_cancelled(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cancelled
    }

    /// Notes what ends something that begins now.
    pub fn add(&self, end: impl Fn() + Send + 'static) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.cancelled {
            drop(inner);
            end();
        } else {
            inner.ends.push(Box::new(end));
        }
    }

    /// Notes a link that begins now, without keeping it.
    pub fn add_link<C: Control + 'static>(&self, control: &Arc<C>) {
        let control = Arc::downgrade(control);
        self.add(move || {
            control.upgrade().inspect(|control| control.kill());
        });
    }

    /// Runs what cannot be ended from outside, such as asking a name server, on a thread of its own, which is left
    /// alone if everything is cancelled meanwhile.
    pub fn run<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> Result<T, TransportError> + Send + 'static,
    ) -> Result<T, TransportError> {
        let failed = |text: &str| TransportError::Connect(text.to_owned());
        let (done, result) = bounded(1);
        let thread = std::thread::Builder::new().name("connect".to_owned());
        thread.spawn(move || drop(done.send(what()))).map_err(|_| failed("start a thread"))?;
        loop {
            match result.recv_timeout(LOOK_EVERY) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(failed("a thread died")),
                Err(RecvTimeoutError::Timeout) if self.is_cancelled() => return Err(failed("stopped")),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_is_under_way_is_ended_and_so_is_what_begins_later() {
        let cancel = Arc::new(Cancel::default());
        let ended = Arc::new(AtomicU32::new(0));
        let end = || {
            let ended = Arc::clone(&ended);
            move || {
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        assert_eq!(cancel.run(|| Ok(7)).unwrap(), 7);
        cancel.add(end());
        let (never, waits) = bounded::<()>(0);
        let other = Arc::clone(&cancel);
        let waiting = std::thread::spawn(move || other.run(move || Ok(waits.recv().is_ok())));
        cancel.cancel();
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        assert!(waiting.join().unwrap().is_err_and(|error| error.to_string().contains("stopped")));
        cancel.add(end());
        assert_eq!(ended.load(Ordering::Relaxed), 2);
        drop(never);
    }
}
