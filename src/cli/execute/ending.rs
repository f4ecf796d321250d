//! INT, TERM and HUP end a command with rsync's code for it, and not as a death.
//!
//! **Invariant:** a signal that this process was started to ignore (nohup, a shell's background) stays
//! ignored. **Not here:** the daemon's signals (`daemon/service.rs`), which mean other things as well.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::exit::Exit;

/// Has the process end at once when a signal asks for it: for commands that leave nothing half done.
pub(super) fn end_on_signal() {
    on_signal(end);
}

/// Ends the process as a signal does.
pub(super) fn end() {
    // SAFETY: ends the process. What `exit` would run besides may not run beside other threads.
    unsafe { libc::_exit(i32::from(Exit::Signal.code())) }
}

/// Calls `act` on a thread of its own when the first signal asks for the end. Signals from now on do nothing
/// else; where no thread can be had, all stays as it was.
pub(super) fn on_signal(act: impl FnOnce() + Send + 'static) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    // Registered here, not on the thread: a signal that comes next is heard.
    let entered = runtime.enter();
    let [mut int, mut term, mut hup] =
        [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].map(|number| hear(number).ok().flatten());
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { () = next(&mut int) => {}, () = next(&mut term) => {}, () = next(&mut hup) => {} }
        });
        act();
    });
}

fn hear(number: libc::c_int) -> std::io::Result<Option<Signal>> {
    // SAFETY: `sigaction` without a new action fills in the present one.
    let ignored = unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut present) == 0
            && present.sa_sigaction == libc::SIG_IGN
    };
    if ignored { Ok(None) } else { signal(SignalKind::from_raw(number)).map(Some) }
}

async fn next(heard: &mut Option<Signal>) {
    match heard {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
