//! Pipelines inside another program of ours: they come and go one by one, behind one control socket.
//!
//! **Purpose:** the natively mirrored syncs of an lsyncd configuration answer `speil status`, `wait`,
//! `approve` and the rest, as a daemon's do. **Not here:** signals and reloading, which are the host's.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::chronicle::Chronicle;
use super::control::{Control, default_socket};
use super::error::DaemonError;
use super::hub::Hub;
use super::onlooker::Nobody;
use super::pipeline::Pipeline;
use super::service::converse;
use super::slot::Running;
use crate::config::Sync;
use crate::monitor::{Monitor, Silent};
use crate::sender::SessionError;

/// Pipelines and the control socket that tells of them.
pub struct Hosted {
    hub: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hosted {
    /// Listens at the default place.
    ///
    /// # Errors
    /// [`DaemonError`] if there can be no control socket.
    pub fn start() -> Result<Self, DaemonError> {
        let hub =
            Arc::new(Hub::new(Arc::new(Silent), Arc::new(Nobody), Chronicle::new(None, 0, Arc::new(Silent))));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::Runtime)?;
        let control = runtime.block_on(async { Control::listen(&default_socket()) })?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&hub);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || runtime.block_on(serve(control, served, stopped)))
            .map_err(DaemonError::Runtime)?;
        Ok(Self { hub, stop: Some(stop), thread: Some(thread) })
    }

    /// Starts the pipeline of a sync.
    ///
    /// # Errors
    /// [`SessionError`] if the source cannot be opened or watched.
    pub fn add(&self, sync: Sync, monitor: &Arc<dyn Monitor>) -> Result<(), SessionError> {
        let pipeline = Pipeline::start(sync, monitor)?;
        self.hub.running().push(Running::Up(Box::new(pipeline)));
        Ok(())
    }

    /// Returns what `look` says of the pipeline of the sync called `name`; `None` if there is none.
    pub fn with<R>(&self, name: &str, look: impl FnOnce(&Pipeline) -> R) -> Option<R> {
        let running = self.hub.running();
        running
            .iter()
            .find_map(|slot| match slot {
                Running::Up(pipeline) if pipeline.sync.name == name => Some(pipeline),
                _ => None,
            })
            .map(|pipeline| look(pipeline))
    }

    /// Stops the pipeline of the sync called `name`, in order.
    pub fn remove(&self, name: &str) {
        let taken = {
            let mut running = self.hub.running();
            let named = |slot: &Running| matches!(slot, Running::Up(pipeline) if pipeline.sync.name == name);
            running.iter().position(named).map(|at| running.swap_remove(at))
        };
        // Not under the lock: what is in flight takes its time.
        drop(taken);
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.hub.stop_all();
    }
}

async fn serve(control: Control, hub: Arc<Hub>, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            accepted = control.listener.accept() => if let Ok((stream, _)) = accepted {
                let hub = Arc::clone(&hub);
                tokio::spawn(async move {
                    // A client that goes away early concerns nobody.
                    let _ = converse(stream, hub).await;
                });
            },
            _ = &mut stopped => return,
        }
    }
}
