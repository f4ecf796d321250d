//! Mirrors of speil's own for lsyncd's configurations: the ordinary pipeline, and its notices as lines.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::told::{Told, line};
use crate::action::{Ear, Mirror, MirrorWord, Mirrors};
use crate::config::Sync;
use crate::daemon::{self, Hosted};
use crate::monitor::{Monitor, Notice, Scope};

/// Makes mirrors. The control socket comes with the first of them, after the process has left its terminal.
#[derive(Default)]
pub(super) struct Native {
    hosted: Mutex<Option<Arc<Hosted>>>,
}

impl Native {
    fn hosted(&self) -> Result<Arc<Hosted>, String> {
        let mut slot = self.hosted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hosted) = &*slot {
            return Ok(Arc::clone(hosted));
        }
        let hosted = Arc::new(Hosted::start().map_err(|error| error.to_string())?);
        *slot = Some(Arc::clone(&hosted));
        Ok(hosted)
    }
}

impl Mirrors for Native {
    fn probe(&self, sync: &Sync) -> Result<(), String> {
        sync.targets.iter().try_for_each(|target| daemon::probe(sync, target))
    }

    fn start(&self, sync: &Sync, ear: Ear) -> Result<Box<dyn Mirror>, String> {
        let hosted = self.hosted()?;
        let monitor: Arc<dyn Monitor> = Arc::new(Lines { ear });
        hosted.add(sync.clone(), &monitor).map_err(|error| error.to_string())?;
        Ok(Box::new(Running { hosted, sync: sync.clone() }))
    }
}

struct Running {
    hosted: Arc<Hosted>,
    sync: Sync,
}

impl Mirror for Running {
    fn queued(&self) -> usize {
        let count = |pipeline: &daemon::Pipeline| {
            pipeline.targets.iter().map(|target| target.mailbox.pending().queued).max().unwrap_or(0)
        };
        self.hosted.with(&self.sync.name, count).unwrap_or(0)
    }

    fn watched(&self) -> Vec<Vec<u8>> {
        let source = self.sync.source.as_os_str().as_bytes();
        let shown = |path: crate::tree::RelPath| match path.is_root() {
            true => [source, b"/"].concat(),
            false => [source, b"/", path.as_bytes(), b"/"].concat(),
        };
        let all = self.hosted.with(&self.sync.name, daemon::Pipeline::directories).unwrap_or_default();
        all.into_iter().map(shown).collect()
    }

    fn reconcile(&self) {
        let ask = |pipeline: &daemon::Pipeline| pipeline.reconcile(crate::event::RescanReason::Request);
        self.hosted.with(&self.sync.name, ask);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hosted.remove(&self.sync.name);
    }
}

/// Hands notices on as lines of the log.
struct Lines {
    ear: Ear,
}

impl Monitor for Lines {
    fn notice(&self, scope: &Scope, notice: &Notice) {
        let (category, text) = match line(scope, notice, true) {
            Told::Trouble(text, hint) => {
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                ("Warn", format!("{text}{hint}"))
            }
            Told::News(text) => ("Normal", text),
            Told::Detail(text) | Told::Fine(text) => ("Native", text),
        };
        (self.ear)(MirrorWord::Line { category, text });
        match notice {
            Notice::Live => (self.ear)(MirrorWord::Live),
            Notice::Disconnected { .. } => (self.ear)(MirrorWord::Down),
            _ => {}
        }
    }
}
