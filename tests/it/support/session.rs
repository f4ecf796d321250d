//! A session of its own, as the daemon has one for each target, without watch and engine.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use speil::config;
use speil::event::RescanReason;
use speil::sender::{Outcome, Session, SessionError, SessionOptions, Source, Surroundings, TargetState};
use speil::transport::{Local, Transport};

use super::command::{SPEIL, eventually};

/// A source and a target below one directory, and what surrounds the sessions between them.
pub struct Scene {
    dir: PathBuf,
    pub options: SessionOptions,
    pub around: Surroundings,
}

impl Scene {
    /// Makes both trees.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(dir: &Path) -> Self {
        Self::with(dir, "")
    }

    /// The same, with more keys of the sync.
    ///
    /// # Panics
    /// If that fails.
    pub fn with(dir: &Path, keys: &str) -> Self {
        let (source, target) = (dir.join("source"), dir.join("target"));
        for dir in [&source, &target] {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        let file = dir.join("speil.lua");
        let text = format!("sync {{ default.mirror, source = {source:?}, target = {target:?}, {keys} }}");
        std::fs::write(&file, text).expect("a configuration");
        let sync = config::load_all(&[file]).expect("a configuration").config.syncs.remove(0);
        let target = sync.targets[0].clone();
        let options = SessionOptions {
            sync,
            target,
            mirror: [7; 16].into(),
            live: true,
            dry_run: false,
            rehearsal: false,
        };
        let around = Surroundings::of(Source::open(&source, 1).expect("a source"));
        Self { dir: dir.to_owned(), options, around }
    }

    pub fn source(&self, name: &str) -> PathBuf {
        self.dir.join("source").join(name)
    }

    pub fn target(&self, name: &str) -> PathBuf {
        self.dir.join("target").join(name)
    }

    /// Connects by a transport.
    pub fn connect(&self, transport: &dyn Transport) -> Result<Session, SessionError> {
        Session::connect(transport, self.options.clone(), self.around.clone())
    }

    /// Connects to a local agent, and works until the mailbox is closed or the agent is gone.
    ///
    /// # Panics
    /// If there is no session to be had.
    pub fn run(&self, reason: RescanReason) -> JoinHandle<Outcome> {
        let agent = Local::from(vec![SPEIL.to_owned(), "agent".to_owned()]);
        let session = self.connect(&agent).unwrap_or_else(|error| panic!("{error}"));
        std::thread::spawn(move || session.run(reason))
    }

    /// Waits until the target is live.
    pub fn until_live(&self) {
        eventually("the target is live", || self.around.status.state().0 == TargetState::Live);
    }

    /// Ends a session that runs.
    ///
    /// # Panics
    /// If it has failed.
    pub fn end(&self, running: JoinHandle<Outcome>) {
        self.around.mailbox.close();
        let error = running.join().expect("a session").error;
        assert!(error.is_none(), "{}", error.map(|error| error.to_string()).unwrap_or_default());
    }
}
