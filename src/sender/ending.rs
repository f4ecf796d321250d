//! The end of a carrier whose peer is done.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::transport::{Control, Ended};

/// How long a carrier may take to end once its peer is done.
const END_WAIT: Duration = Duration::from_secs(5);

/// Does `before` and waits for the end of a carrier whose peer is done; one that stays is ended.
pub(super) fn ended_soon(control: &Arc<dyn Control>, before: impl FnOnce()) -> Ended {
    let (done, waiting) = bounded::<()>(0);
    let carrier = Arc::clone(control);
    let killer = std::thread::Builder::new().name("end".to_owned()).spawn(move || {
        if waiting.recv_timeout(END_WAIT) == Err(RecvTimeoutError::Timeout) {
            carrier.kill();
        }
    });
    if killer.is_err() {
        control.kill();
    }
    before();
    let ended = control.ended();
    drop(done);
    ended
}
