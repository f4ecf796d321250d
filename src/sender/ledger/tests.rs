//! The rules by example; `tests/sim` searches them.

use std::time::{Duration, Instant};

use super::*;

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("a path")
}

/// A ledger that hears events one by one; every look is done at once.
struct Desk {
    ledger: Ledger,
    now: Instant,
    emitted: u64,
}

impl Desk {
    fn new() -> Self {
        Self { ledger: Ledger::default(), now: Instant::now(), emitted: 0 }
    }

    fn hear(&mut self, told: Told) {
        self.emitted += 1;
        self.ledger.hear(told, self.now);
        self.ledger.mark(Mark { number: self.emitted, change: Moment(self.emitted * 10) });
    }

    fn changed(&mut self, text: &str) {
        self.hear(Told::Changed { path: path(text), what: What::Content });
    }

    fn renamed(&mut self, from: &str, to: &str, dir: bool) {
        self.hear(Told::Renamed { from: path(from), to: path(to), dir });
    }

    fn gone(&mut self, text: &str, held: bool) {
        self.hear(Told::Gone { path: path(text), dir: Some(false), held });
    }

    fn look(&mut self) -> Option<Look> {
        self.ledger.wake_up(self.now);
        [Class::Name, Class::Subtree, Class::Suspect]
            .into_iter()
            .find_map(|class| self.ledger.next_look(class))
    }

    /// Takes what is next and says what it is; what is looked at is found and sent.
    fn next(&mut self) -> Option<(Op, String)> {
        if let Some((op, ordered)) = self.ledger.next_ordered() {
            return Some(match ordered {
                Ordered::Rename { from, to, .. } => (op, format!("rename {from} {to}")),
                Ordered::Mkdir { path } => (op, format!("mkdir {path}")),
                Ordered::Delete { path, .. } => (op, format!("make way {path}")),
            });
        }
        let Look { op, what, .. } = self.look()?;
        let (op, path) = self.ledger.looked(op, self.emitted)?;
        Some((op, format!("{what:?} {path}")))
    }

    fn all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).map(|(_, text)| text.replace('"', "")).collect()
    }
}

#[test]
fn what_is_owed_goes_along_with_a_rename_which_leaves_first() {
    let mut desk = Desk::new();
    desk.changed("a/f");
    desk.renamed("a", "b", true);
    assert_eq!(desk.all(), ["rename a b", "Content b/f"]);
}

#[test]
fn a_rename_leads_into_a_directory_that_is_made_before_it() {
    let mut desk = Desk::new();
    desk.changed("d");
    desk.renamed("f", "d/f", false);
    assert_eq!(desk.all(), ["mkdir d", "rename f d/f", "Content d", "Attributes d/f"]);
}

#[test]
fn what_made_way_is_deleted_before_the_rename_unless_the_guard_holds_it() {
    for (held, first) in [(false, "make way d/f"), (true, "rename e d")] {
        let mut desk = Desk::new();
        desk.gone("d/f", held);
        desk.renamed("e", "d", true);
        assert_eq!(desk.all()[0], first);
    }
}

#[test]
fn a_debt_remains_until_what_was_looked_at_was_heard() {
    let mut desk = Desk::new();
    desk.changed("f");
    // Two events wait in the queue when the file is looked at.
    desk.emitted += 2;
    let (op, _) = desk.next().expect("a look");
    desk.ledger.answer(op, Answer::Done, desk.now);
    assert_eq!(desk.ledger.owed(), 1);
    desk.ledger.mark(Mark { number: desk.emitted, change: Moment(0) });
    assert_eq!(desk.ledger.owed(), 0);
}

#[test]
fn a_file_that_is_not_there_is_gone_only_when_everything_was_heard() {
    let mut desk = Desk::new();
    desk.changed("f");
    let op = desk.look().expect("a look").op;
    desk.ledger.absent(op, desk.emitted + 1);
    desk.renamed("f", "g", false);
    assert_eq!(desk.all(), ["rename f g", "Content g"]);
}

#[test]
fn a_rename_whose_fate_nobody_knows_has_the_new_name_compared_whole() {
    let mut desk = Desk::new();
    desk.renamed("a", "b", true);
    desk.all();
    desk.ledger.broken(None);
    assert_eq!(desk.all(), ["Subtree { whole: false } a", "Subtree { whole: true } b"]);
}

#[test]
fn what_a_receiver_has_recorded_needs_no_comparison() {
    let mut desk = Desk::new();
    desk.renamed("a", "b", true);
    desk.renamed("c", "d", true);
    let (first, _) = desk.next().expect("a rename");
    desk.all();
    desk.ledger.broken(Some(&Record { last: first.0, refused: Vec::new() }));
    assert_eq!(desk.all(), ["rename c d"]);
}

#[test]
fn a_held_delete_keeps_nobody_waiting_and_moves_along() {
    let mut desk = Desk::new();
    desk.gone("a/f", true);
    desk.renamed("a", "b", true);
    let (op, _) = desk.next().expect("a rename");
    desk.ledger.answer(op, Answer::Done, desk.now);
    assert_eq!((desk.ledger.owed(), desk.ledger.held()), (0, vec![path("b/f")]));
    desk.ledger.approve();
    assert_eq!(desk.all(), ["Gone { dir: Some(false), complete: false } b/f"]);
}

#[test]
fn a_directory_that_is_watched_late_is_compared_if_something_in_it_was_sent_before() {
    let mut desk = Desk::new();
    desk.changed("d/f");
    desk.hear(Told::Watched { path: path("e") });
    assert_eq!(desk.all(), ["Content d/f"]);
    desk.hear(Told::Watched { path: path("d") });
    assert_eq!(desk.all(), ["Subtree { whole: false } d"]);
}

#[test]
fn a_held_delete_stays_where_the_target_renames_nothing() {
    let mut desk = Desk::new();
    desk.ledger = Ledger::new(Options { renames: false, ..Options::default() });
    desk.gone("a/f", true);
    desk.renamed("a", "b", true);
    assert!(desk.ledger.held().contains(&path("a/f")));
}

#[test]
fn a_directory_of_which_everything_was_seen_is_asked_for_once_more_and_then_left() {
    let mut desk = Desk::new();
    desk.hear(Told::Gone { path: path("d"), dir: Some(true), held: false });
    let refused = Answer::Refused(Why::NotEmpty);
    let (op, _) = desk.next().expect("a delete");
    desk.ledger.answer(op, refused, desk.now);
    let (comparison, text) = desk.next().expect("a comparison");
    assert_eq!(text, "Subtree { whole: false } \"d\"");
    desk.ledger.differs(comparison, &path("d"), What::Gone { dir: Some(true), complete: true });
    desk.ledger.compared(comparison, desk.emitted);
    let (op, _) = desk.next().expect("the delete again");
    desk.ledger.answer(op, refused, desk.now);
    assert_eq!((desk.ledger.owed(), desk.all()), (0, vec![]));
}

#[test]
fn what_is_refused_again_and_again_becomes_a_problem_that_holds_no_watermark_back() {
    let mut desk = Desk::new();
    desk.changed("f");
    for _ in 0..40 {
        let Some((op, text)) = desk.next() else { break };
        if text.starts_with("Subtree") {
            desk.ledger.compared(op, desk.emitted);
        } else {
            desk.ledger.answer(op, Answer::Refused(Why::NotEmpty), desk.now);
        }
    }
    assert_eq!(desk.ledger.problems(), [path("f")]);
    assert_eq!((desk.ledger.oldest(), desk.ledger.watermark()), (None, desk.ledger.heard().change));
    let wakes = desk.ledger.wake_at().expect("a pause");
    assert!(wakes > desk.now && wakes <= desk.now + Duration::from_secs(2));
}

#[test]
fn the_watermark_is_the_least_of_what_is_owed() {
    let mut desk = Desk::new();
    desk.changed("f");
    let early = desk.ledger.watermark();
    desk.changed("g");
    assert_eq!((early, desk.ledger.watermark()), (Moment(0), Moment(0)));
    while let Some((op, _)) = desk.next() {
        desk.ledger.answer(op, Answer::Done, desk.now);
    }
    assert_eq!(desk.ledger.watermark(), Moment(20));
    desk.ledger.clock_went_back(15);
    assert_eq!(desk.ledger.watermark(), Moment(5));
}

#[test]
fn too_many_names_become_one_comparison_that_believes_no_stamps_if_contents_were_owed() {
    for (what, whole) in [(What::Content, true), (What::Attributes, false)] {
        let mut desk = Desk::new();
        desk.ledger = Ledger::new(Options { names_max: 3, ..Options::default() });
        for name in ["a", "b", "c", "d"] {
            desk.hear(Told::Changed { path: path(name), what });
        }
        assert_eq!(desk.all(), [format!("Subtree {{ whole: {whole} }} .")]);
    }
}
