use super::*;
use crate::monitor::Silent;
use crate::sender::{Feedback, Lane, Mailbox};
use crate::watch::Sink;

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

/// An engine at work, with one target that nobody serves.
struct Stage {
    dir: tempfile::TempDir,
    mailbox: Arc<Mailbox>,
    inlet: Arc<Inlet>,
    input: crossbeam_channel::Sender<Input>,
    engine: Option<std::thread::JoinHandle<()>>,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        let file = dir.path().join("speil.lua");
        let text = format!("sync {{ default.mirror, source = {source:?}, target = {target:?} }}");
        std::fs::write(&file, text).unwrap();
        let sync = crate::config::load_all(&[file]).unwrap().config.syncs.remove(0);
        let running = RunningTarget::new(sync.targets[0].clone());
        let mailbox = Arc::clone(&running.mailbox);
        let (input, inputs) = crossbeam_channel::bounded(16);
        let source = Source::open(&sync.source, 1).unwrap();
        let inlet = Arc::new(Inlet::new(input.clone(), false, Arc::clone(&source)));
        let engine = Engine::new(&sync, &source, &[running], Arc::new(Silent), Arc::clone(&inlet));
        let engine = Some(std::thread::spawn(move || engine.run(&inputs)));
        Self { dir, mailbox, inlet, input, engine }
    }

    /// Ends the engine, and returns what it has handed out.
    fn changes(mut self) -> Vec<ChangeKind> {
        self.input.send(Input::Stop).unwrap();
        self.engine.take().unwrap().join().unwrap();
        self.mailbox.take(Lane::Live, 1000).into_iter().map(|parcel| parcel.change.kind).collect()
    }

    /// The same, the paths of the updates alone.
    fn updates(self) -> Vec<RelPath> {
        let changes = self.changes().into_iter();
        let updates = changes.filter(|change| matches!(change, ChangeKind::Update { .. }));
        updates.map(|change| change.path().clone()).collect()
    }
}

#[test]
fn what_comes_back_under_a_name_that_was_renamed_meanwhile_is_looked_at_under_the_new_one() {
    let stage = Stage::new();
    let known = Instant::now();
    let (from, to) = (path("d"), path("e"));
    stage.inlet.events(vec![Event {
        at: known,
        change: Moment::NEVER,
        kind: EventKind::Move { from, to, dir: true },
    }]);
    stage.inlet.again(&path("d/busy"), Duration::from_secs(60), known, (Age::believed(known), true));
    stage.inlet.still_open(&path("d/open"), known, Age::believed(known));
    let updates = stage.updates();
    let has = |name: &str| updates.contains(&path(name));
    assert!(has("e/busy") && has("e/open"), "{updates:?}");
    // Nobody knows whether something else stands there by now.
    assert!(has("d/busy") && has("d/open"), "{updates:?}");
}

#[test]
fn a_large_burst_in_a_tree_that_nobody_has_counted_is_left_to_a_pass() {
    let stage = Stage::new();
    std::fs::write(stage.dir.path().join("source/left"), "").unwrap();
    let at = Instant::now();
    let deletes = (0..200).map(|n| Event {
        at,
        change: Moment::NEVER,
        kind: EventKind::Delete { path: path(&format!("f{n}")), dir: false },
    });
    stage.inlet.events(deletes.collect());
    let reason = RescanReason::Mismatch;
    assert_eq!(stage.changes(), [ChangeKind::Rescan { path: RelPath::root(), reason }]);
}

#[test]
fn what_comes_back_when_its_session_has_followed_some_of_the_renames_is_looked_at_under_the_last_name() {
    let stage = Stage::new();
    let known = Instant::now();
    // The session sent the first two, and knows the file by the name that the second gave it.
    let renames = [("e", "z"), ("d", "e"), ("e", "y")].map(|(from, to)| (path(from), path(to)));
    let events = renames.map(|(from, to)| Event {
        at: known,
        change: Moment::NEVER,
        kind: EventKind::Move { from, to, dir: true },
    });
    stage.inlet.events(events.into());
    stage.inlet.still_open(&path("e/open"), known, Age::believed(known));
    let updates = stage.updates();
    assert!(updates.contains(&path("y/open")), "{updates:?}");
}
