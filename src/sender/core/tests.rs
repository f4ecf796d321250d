//! What the session does, by example; `tests/sim` searches it.

use std::time::{Duration, Instant};

use super::*;
use crate::sender::ledger::{Mark, Record};
use crate::tree::FileId;

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("a path")
}

fn file(len: u64) -> Found {
    Found::File { len, file: FileId { dev: 1, ino: 1 }, links: 1 }
}

/// A session whose driver does every look at once; files are what `large` says.
struct Desk {
    session: Session,
    now: Instant,
    large: bool,
    queued: u64,
}

impl Desk {
    fn new() -> Self {
        let session = Session::new(Ledger::default(), Options { streams_max: 1, ..Options::default() });
        let mut desk = Self { session, now: Instant::now(), large: false, queued: 0 };
        desk.take(Input::Room(true));
        desk
    }

    fn take(&mut self, input: Input) {
        self.session.take(input, self.now);
    }

    fn hear(&mut self, told: Told) {
        self.queued += 1;
        self.take(Input::Told { told, since: self.now });
        self.take(Input::Mark(Mark { number: self.queued, change: Moment(self.queued * 10) }));
    }

    fn changed(&mut self, text: &str) {
        self.hear(Told::Changed { path: path(text), what: What::Content });
    }

    fn renamed(&mut self, from: &str, to: &str, dir: bool) {
        self.hear(Told::Renamed { from: path(from), to: path(to), dir });
    }

    /// Returns the next step that is no look.
    fn next(&mut self) -> Step {
        loop {
            match self.session.turn(self.now) {
                Step::Look { look, .. } => {
                    let found = file(if self.large { 1 << 30 } else { 1 });
                    self.take(Input::Found { look, queued: self.queued, found });
                }
                step => return step,
            }
        }
    }

    fn message(&mut self) -> Option<(Op, Message)> {
        match self.next() {
            Step::Send { op, message } => Some((op, message)),
            _ => None,
        }
    }
}

#[test]
fn what_is_heard_while_a_file_is_looked_at_leaves_before_it_with_a_smaller_number() {
    let mut desk = Desk::new();
    desk.changed("f");
    let Step::Look { look, .. } = desk.session.turn(desk.now) else { panic!("no look") };
    desk.renamed("a", "b", false);
    desk.take(Input::Found { look, queued: desk.queued, found: file(1) });
    let (first, rename) = desk.message().expect("a rename");
    let (second, content) = desk.message().expect("a content");
    assert!(matches!(rename, Message::Ordered(_)) && matches!(content, Message::Content { .. }));
    assert!(first < second);
}

#[test]
fn a_large_file_waits_for_its_turn_and_is_looked_at_anew_then() {
    let mut desk = Desk::new();
    desk.large = true;
    desk.changed("f");
    desk.changed("g");
    let (op, message) = desk.message().expect("a beginning");
    assert!(matches!(message, Message::Begin { path: begun, .. } if begun == path("f")));
    assert!(matches!(desk.next(), Step::Close { .. }));
    assert!(matches!(desk.next(), Step::Piece { op: piece, .. } if piece == op));
    desk.take(Input::Piece { op, piece: Piece::End { steady: true, there: true } });
    assert!(matches!(desk.message(), Some((_, Message::End { .. }))));
    assert!(matches!(desk.message(), Some((_, Message::Begin { path: begun, .. })) if begun == path("g")));
}

#[test]
fn a_large_file_that_is_renamed_itself_begins_anew_and_one_below_a_renamed_directory_goes_on() {
    for (from, to, goes_on) in [("d/f", "d/g", false), ("d", "e", true)] {
        let mut desk = Desk::new();
        desk.large = true;
        desk.changed("d/f");
        let (op, _) = desk.message().expect("a beginning");
        assert!(matches!(desk.next(), Step::Piece { .. }));
        desk.renamed(from, to, goes_on);
        desk.take(Input::Piece { op, piece: Piece::More });
        let steps = [desk.next(), desk.next()];
        let is_read = |step: &Step| matches!(step, Step::Piece { op: read, .. } if *read == op);
        let is_given_up = |step: &Step| matches!(step, Step::Send { op: sent, message: Message::Abandon { .. } } if *sent == op);
        assert_eq!(steps.iter().any(is_read), goes_on, "{steps:?}");
        assert_eq!(steps.iter().any(is_given_up), !goes_on, "{steps:?}");
    }
}

#[test]
fn a_large_file_below_a_rename_that_the_target_has_not_done_begins_anew() {
    let mut desk = Desk::new();
    desk.large = true;
    desk.changed("d/f");
    let (stream, _) = desk.message().expect("a beginning");
    assert!(matches!(desk.next(), Step::Piece { .. }));
    desk.renamed("d", "e", true);
    desk.take(Input::Piece { op: stream, piece: Piece::More });
    let (op, _) = desk.message().expect("a rename");
    assert!(matches!(desk.next(), Step::Piece { .. }));
    desk.take(Input::Answer { op, answer: Answer::Refused(Why::NotEmpty) });
    desk.take(Input::Piece { op: stream, piece: Piece::End { steady: true, there: true } });
    assert!(matches!(desk.message(), Some((op, Message::Abandon { .. })) if op == stream));
}

#[test]
fn a_verdict_holds_for_as_many_deletes_as_were_counted() {
    let mut desk = Desk::new();
    desk.hear(Told::Compare { path: RelPath::root(), whole: false });
    let Step::Compare { comparison, .. } = desk.next() else { panic!("no comparison") };
    let extra = |name| Input::Differs {
        comparison,
        path: path(name),
        what: What::Gone { dir: Some(false), complete: true },
    };
    desk.take(extra("f"));
    // Judged at the end, as one burst.
    assert!(matches!(desk.next(), Step::Wait { .. }));
    desk.take(extra("g"));
    desk.take(Input::Compared { comparison, begun: desk.queued, ended: desk.queued });
    assert_eq!(desk.next(), Step::Judge { deletes: 2 });
    // One of them came back meanwhile.
    desk.changed("g");
    desk.take(Input::Judged { hold: false });
    assert!(matches!(desk.message(), Some((_, Message::Content { .. }))));
    assert_eq!(desk.next(), Step::Judge { deletes: 1 });
}

#[test]
fn a_batch_gathers_more_while_comparisons_are_under_way() {
    let mut desk = Desk::new();
    desk.hear(Told::Compare { path: RelPath::root(), whole: false });
    assert!(matches!(desk.next(), Step::Compare { .. }));
    desk.changed("f");
    assert!(matches!(desk.message(), Some((_, Message::Content { .. }))));
    let Step::Wait { until: Some(until) } = desk.next() else { panic!("it does not wait") };
    assert_eq!(until, desk.now + Duration::from_millis(30));
    desk.now = until;
    assert!(matches!(desk.next(), Step::Commit { batch: 1, .. }));
}

#[test]
fn what_a_connection_leaves_open_is_due_again_but_for_what_the_receiver_has() {
    let mut desk = Desk::new();
    desk.changed("f");
    let (op, _) = desk.message().expect("a content");
    desk.changed("g");
    desk.message().expect("a content");
    desk.take(Input::Ended { record: Some(Record { last: op.0, refused: Vec::new() }) });
    assert!(matches!(desk.message(), Some((_, Message::Content { path: sent, .. })) if sent == path("g")));
    assert!(matches!(desk.next(), Step::Commit { .. }));
}

#[test]
fn an_acknowledgement_settles_everything_up_to_it() {
    let mut desk = Desk::new();
    desk.changed("f");
    desk.changed("g");
    while !matches!(desk.next(), Step::Commit { .. }) {}
    assert_eq!(desk.session.ledger().owed(), 2);
    desk.take(Input::Acknowledged { batch: 1 });
    assert!(desk.session.is_idle() && desk.session.ledger().owed() == 0);
}
