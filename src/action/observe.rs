//! Descriptors that a script observes.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::core::{Core, Message};

/// Waits once, on a thread of its own, for a descriptor that a script observes.
pub fn observe(fd: i32, core: &Core) {
    let Some((ready, writable)) = core.observed.get(&fd) else { return };
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, ready.is_some());
    flags.set(PollFlags::OUT, writable.is_some());
    let engine = core.engine.clone();
    let wait = move || {
        // SAFETY: the script keeps it open while it observes it; poll of a closed one says so.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut fds = [PollFd::from_borrowed_fd(borrowed, flags)];
        if matches!(poll(&mut fds, None::<&Timespec>), Ok(1..)) {
            let [polled] = fds;
            let _ = engine.send(Message::Ready(fd, !polled.revents().contains(PollFlags::IN)));
        }
    };
    // Without a thread the script hears nothing, and the log says why.
    if let Err(error) = std::thread::Builder::new().name("speil-observe".to_owned()).spawn(wait) {
        core.log.line("Error", &format!("cannot observe a descriptor: {error}"));
    }
}
