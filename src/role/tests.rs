//! The table, cell by cell; the verbs; the file.

use super::*;

fn id(number: u8) -> Id {
    let mut bytes = [0; 16];
    bytes[15] = number;
    Id::from_bytes(bytes)
}

fn generation(n: u64, number: u8, ancestors: &[u8]) -> Generation {
    Generation::new(n, id(number), ancestors.iter().map(|number| id(*number)).collect())
}

fn host(name: &str) -> HostName {
    HostName::new(name)
}

fn here() -> TreeId {
    TreeId { machine: id(100), inode: 7, born: Some(5) }
}

fn heard(generation: Generation) -> HeardOf {
    HeardOf { generation, host: host("bergen") }
}

/// The first generation, the second one out of it, and one that went another way.
fn g1() -> Generation {
    generation(1, 1, &[])
}
fn g2() -> Generation {
    generation(2, 2, &[1])
}
fn other2() -> Generation {
    generation(2, 3, &[1])
}
fn g3() -> Generation {
    generation(3, 4, &[2, 1])
}

fn record(role: Role, held: Generation) -> Record {
    let starts = Starts { running: Some(id(50)), ended: vec![], seen: Some(id(60)) };
    let heard = held.n();
    Record { role, generation: Some(held), group: Some(id(90)), heard, starts, ..Record::joined(here()) }
}

fn adopting(of: Generation, begun: bool) -> Record {
    Record { adopting: Some(Adoption { of, begun }), ..record(Role::Standby, g1()) }
}

fn offer(led: Generation) -> Offer {
    let starts = Offered { running: id(60), ended: vec![] };
    Offer { group: Some(id(90)), generation: led, starts, host: host("oslo") }
}

fn admits(tree: Tree<'_>, led: Generation) -> Result<Admission, Refusal> {
    admit(tree, Sender::Led(&offer(led)))
}

fn superseded(theirs: u64, n: u64) -> Result<Admission, Refusal> {
    Err(Refusal::SenderSuperseded { host: host("oslo"), theirs, n })
}

fn diverged(theirs: u64, n: u64, primary: bool) -> Result<Admission, Refusal> {
    Err(Refusal::Diverged { host: host("oslo"), theirs, n, primary })
}

fn around() -> Around {
    let others = Others::Asked(vec![(host("bergen"), Answer::Plain), (host("tromso"), Answer::Plain)]);
    Around { confirmed: true, barred: None, group: Some(id(90)), others }
}

fn promotes(tree: Tree<'_>, force: Force) -> Result<Promotion, Refusal> {
    promote(tree, &here(), &around(), force, id(9))
}

#[test]
fn who_may_send_to_a_tree_without_a_role() {
    let (ours, strange) = (Tree::Plain { ours: true }, Tree::Plain { ours: false });
    for errand in [Errand::Change, Errand::PutBack, Errand::Look] {
        assert_eq!(admit(ours, Sender::Plain(errand)), Ok(Admission::Today));
        assert_eq!(admit(strange, Sender::Plain(errand)), Ok(Admission::Today));
    }
    assert_eq!(admits(ours, g2()), Ok(Admission::Adopt(Why::Joined)));
    assert_eq!(admits(strange, g2()), Err(Refusal::NotJoined));
}

#[test]
fn who_may_send_to_a_standby() {
    let at = record(Role::Standby, g2());
    let tree = Tree::Placed(&at);
    assert_eq!(admits(tree, g2()), Ok(Admission::Follow));
    assert_eq!(admits(tree, g3()), Ok(Admission::Adopt(Why::Younger)));
    assert_eq!(admits(tree, g1()), superseded(1, 2));
    assert_eq!(admits(tree, other2()), diverged(2, 2, false));
    let refused = Err(Refusal::NoGeneration { primary: false, n: 2 });
    assert_eq!(admit(tree, Sender::Plain(Errand::Change)), refused);
    assert_eq!(admit(tree, Sender::Plain(Errand::PutBack)), Ok(Admission::Let));
    assert_eq!(admit(tree, Sender::Plain(Errand::Look)), Ok(Admission::Let));
    let joined = Record::joined(here());
    for led in [g1(), g2(), other2(), g3()] {
        assert_eq!(admits(Tree::Placed(&joined), led), Ok(Admission::Adopt(Why::Joined)));
    }
}

#[test]
fn who_may_send_to_a_primary() {
    let at = record(Role::Primary, g2());
    let tree = Tree::Placed(&at);
    assert_eq!(admits(tree, g2()), Err(Refusal::Twin { host: host("oslo"), n: 2 }));
    let by = host("oslo");
    assert_eq!(
        admits(tree, g3()),
        Err(Refusal::Unfit(Unfit::Superseded { by, theirs: 3, n: 2, primary: true, next: false }))
    );
    assert_eq!(admits(tree, g1()), superseded(1, 2));
    assert_eq!(admits(tree, other2()), diverged(2, 2, true));
    let refused = Err(Refusal::NoGeneration { primary: true, n: 2 });
    assert_eq!(admit(tree, Sender::Plain(Errand::Change)), refused);
    assert_eq!(admit(tree, Sender::Plain(Errand::PutBack)), refused);
    assert_eq!(admit(tree, Sender::Plain(Errand::Look)), Ok(Admission::Let));
}

#[test]
fn who_may_send_to_a_tree_that_adopts() {
    for begun in [false, true] {
        // At 1, on its way to `other2`, as `rejoin` or an adoption that was cut off left it.
        let at = adopting(other2(), begun);
        let tree = Tree::Placed(&at);
        assert_eq!(admits(tree, other2()), Ok(Admission::Adopt(Why::Resumed)));
        assert_eq!(admits(tree, generation(3, 5, &[3, 1])), Ok(Admission::Adopt(Why::Younger)));
        assert_eq!(admits(tree, g1()), superseded(1, 2));
        assert_eq!(admits(tree, g2()), diverged(2, 2, false));
        assert_eq!(admits(tree, g3()), diverged(3, 2, false));
    }
    // What it holds counts besides: a sender of before is superseded.
    let at = Record { generation: Some(g3()), ..adopting(other2(), true) };
    assert_eq!(admits(Tree::Placed(&at), g2()), superseded(2, 3));
}

#[test]
fn who_may_send_to_a_copied_tree() {
    let at = record(Role::Primary, g2());
    let moved = TreeId { inode: 8, ..here() };
    let tree = Tree::of(Some(&at), &moved, true);
    assert!(matches!(tree, Tree::Transplanted(_)));
    assert_eq!(admits(tree, g2()), Ok(Admission::Adopt(Why::Transplanted)));
    assert_eq!(admits(tree, g3()), Ok(Admission::Adopt(Why::Transplanted)));
    assert_eq!(admits(tree, other2()), Ok(Admission::Adopt(Why::Transplanted)));
    assert_eq!(admits(tree, g1()), superseded(1, 2));
    let refused = Err(Refusal::NoGeneration { primary: false, n: 2 });
    assert_eq!(admit(tree, Sender::Plain(Errand::Change)), refused);
    assert_eq!(admit(tree, Sender::Plain(Errand::Look)), Ok(Admission::Let));
    // A fresh filesystem gives the same inode again, at another time.
    assert!(matches!(Tree::of(Some(&at), &TreeId { born: Some(6), ..here() }, true), Tree::Transplanted(_)));
    assert!(matches!(Tree::of(Some(&at), &here(), true), Tree::Placed(_)));
    assert!(tree.leads().is_none(), "a copy does not lead");
    let begun = begin(tree, &moved, &offer(g2()), Admission::Adopt(Why::Transplanted)).unwrap();
    assert_eq!((begun.place, begun.role, begun.generation.clone()), (moved, Role::Standby, None));
    assert_eq!(finish(Some(&begun), &moved, &offer(g2())).unwrap().generation, Some(g2()));
}

#[test]
fn who_may_send_to_a_tree_whose_role_nobody_can_read_or_of_another_group() {
    let unreadable = Err(Refusal::Unfit(Unfit::Unreadable));
    assert_eq!(admits(Tree::Unreadable, g2()), unreadable);
    assert_eq!(admit(Tree::Unreadable, Sender::Plain(Errand::Change)), unreadable);
    assert_eq!(admit(Tree::Unreadable, Sender::Plain(Errand::PutBack)), unreadable);
    assert_eq!(admit(Tree::Unreadable, Sender::Plain(Errand::Look)), Ok(Admission::Let));
    for role in [Role::Primary, Role::Standby] {
        let at = Record { group: Some(id(91)), ..record(role, g2()) };
        let refused = Err(Refusal::OtherGroup { host: host("oslo") });
        assert_eq!(admits(Tree::Placed(&at), g2()), refused);
        assert_eq!(admits(Tree::Transplanted(&at), g3()), refused);
    }
}

#[test]
fn a_sender_of_whose_generation_a_younger_one_is_known_is_refused_by_everybody() {
    for at in [record(Role::Standby, g1()), Record::joined(here())] {
        let at = hear(&at, &[heard(g2())]).unwrap();
        assert_eq!(admits(Tree::Placed(&at), g1()), superseded(1, 2));
        assert_eq!(admits(Tree::Transplanted(&at), g1()), superseded(1, 2));
        assert!(admits(Tree::Placed(&at), g2()).is_ok());
    }
}

#[test]
fn a_sender_whose_disk_was_set_back_or_that_lost_its_power_is_adopted_from() {
    let led = Starts::default().started(id(60));
    let says = |starts: &Starts| Offer { starts: starts.offered().unwrap(), ..offer(g2()) };
    let standby = record(Role::Standby, g2());
    let admits = |starts: &Starts| admit(Tree::Placed(&standby), Sender::Led(&says(starts)));
    assert_eq!(admits(&led), Ok(Admission::Follow));
    let restarted = led.stopped().started(id(61));
    assert_eq!(admits(&restarted), Ok(Admission::Follow), "it ended in order");
    let after_power = led.started(id(61));
    assert_eq!(admits(&after_power), Ok(Admission::Adopt(Why::SetBack)));
    // A snapshot of while it ran says that it runs, and so does not list it.
    assert_eq!(admits(&led.started(id(62)).stopped().started(id(63))), Ok(Admission::Adopt(Why::SetBack)));
    // The start is written down before the first change, else a power cut in the middle would not be noticed.
    let begun = begin(Tree::Placed(&standby), &here(), &says(&restarted), Admission::Follow).unwrap();
    assert_eq!(begun.starts.seen, Some(id(61)));
    assert_eq!(
        begin(Tree::Placed(&standby), &here(), &says(&after_power), Admission::Adopt(Why::SetBack)),
        None
    );
    let many = (0..=STARTS_MAX as u8).fold(led, |starts, number| starts.stopped().started(id(number)));
    assert_eq!(many.ended.len(), STARTS_MAX);
}

#[test]
fn an_adoption_says_so_first_and_takes_the_generation_last() {
    let at = record(Role::Standby, g1());
    let told = hear(&at, &[heard(g3())]).unwrap();
    let begun = begin(Tree::Placed(&told), &here(), &offer(g3()), Admission::Adopt(Why::Younger)).unwrap();
    assert_eq!((begun.generation.clone(), begun.is_half()), (Some(g1()), true));
    assert_eq!(begin(Tree::Placed(&begun), &here(), &offer(g3()), Admission::Adopt(Why::Resumed)), None);
    let ended = finish(Some(&begun), &here(), &offer(g3())).unwrap();
    assert_eq!((ended.generation.clone(), ended.is_half(), ended.known.len()), (Some(g3()), false, 0));
    assert_eq!(finish(Some(&ended), &here(), &offer(g3())), None);
    assert_eq!(fitness(Tree::Placed(&ended), true), Ok(()));
}

#[test]
fn what_is_heard_is_bounded_and_the_youngest_of_each_line() {
    let at = record(Role::Standby, g1());
    let at = hear(&at, &[heard(g2()), heard(g3()), heard(other2())]).unwrap();
    let known: Vec<Id> = at.known.iter().map(|known| known.generation.id()).collect();
    assert_eq!((known, at.heard), (vec![id(4), id(3)], 3));
    assert_eq!(hear(&at, &[heard(g1()), heard(g2()), heard(g3())]), None, "nothing new");
    let many = (10..40).map(|number| heard(generation(u64::from(number), number, &[]))).collect::<Vec<_>>();
    let at = hear(&at, &many).unwrap();
    assert_eq!((at.known.len(), at.heard), (KNOWN_MAX, 39));
    assert!(superseded_by(&at).is_some(), "what holds the host back stays");
    // Everything is passed on, and the host's own coming generation is nothing new to it.
    assert_eq!(tells(&at, &host("oslo")).len(), KNOWN_MAX + 1);
    let promised = Record { coming: Some(id(2)), ..record(Role::Standby, g1()) };
    assert_eq!(hear(&promised, &[heard(g2())]), None);
}

#[test]
fn promote_makes_a_generation_that_is_younger_than_all_that_was_heard_of() {
    let at = Record { heard: 7, ..record(Role::Standby, g2()) };
    let Ok(Promotion::Makes(new)) = promotes(Tree::Placed(&at), Force::No) else { panic!() };
    let made = new.generation.clone().unwrap();
    assert_eq!((new.role, made.n(), made.id()), (Role::Primary, 8, id(9)));
    assert_eq!(made.ancestors().collect::<Vec<_>>(), [id(2), id(1)]);
    assert_eq!(promotes(Tree::Placed(&new), Force::No), Ok(Promotion::Already));
    // keepalived is restarted: demote, then promote.
    let Demotion::Steps(down) = demote(Tree::Placed(&new), &here()) else { panic!() };
    assert_eq!(demote(Tree::Placed(&down), &here()), Demotion::Already);
    assert_eq!(promotes(Tree::Placed(&down), Force::No), Ok(Promotion::Keeps(new)));
}

#[test]
fn promote_is_refused_where_health_is_and_force_says_what_it_takes() {
    let stale = hear(&record(Role::Standby, g1()), &[heard(g2())]).unwrap();
    let led = hear(&record(Role::Primary, g1()), &[heard(g2())]).unwrap();
    let (half, chosen) = (adopting(g2(), true), adopting(g2(), false));
    let (joined, whole) = (Record::joined(here()), record(Role::Standby, g2()));
    for tree in [
        Tree::Placed(&stale),
        Tree::Placed(&led),
        Tree::Placed(&half),
        Tree::Placed(&chosen),
        Tree::Placed(&joined),
        Tree::Transplanted(&whole),
        Tree::Unreadable,
    ] {
        let unfit = fitness(tree, true).unwrap_err();
        assert_eq!(promotes(tree, Force::No), Err(Refusal::Unfit(unfit)));
        let forced = promotes(tree, Force::Yes);
        let is_half = tree.record().is_some_and(Record::is_half);
        assert_eq!(forced.is_err(), is_half, "{tree:?}");
        let Ok(Promotion::Makes(new)) = promotes(tree, Force::Half) else { panic!("{tree:?}") };
        assert_eq!((new.place, new.adopting, new.known), (here(), None, vec![]), "{tree:?}");
    }
    let alone = Around { confirmed: false, ..around() };
    let unconfirmed = Err(Refusal::Unfit(Unfit::Unconfirmed { n: 2 }));
    assert_eq!(promote(Tree::Placed(&whole), &here(), &alone, Force::No, id(9)), unconfirmed);
    assert!(promote(Tree::Placed(&whole), &here(), &alone, Force::Yes, id(9)).is_ok());
    let barred = Barred { entry: host("tromso"), others: vec![host("oslo"), host("bergen")] };
    let follower = Around { barred: Some(barred.clone()), ..around() };
    let refusal = Refusal::MayNotLead(barred);
    let told = refusal.told();
    assert_eq!(told.line, "this host is tromso, whose entry in hosts has mayLead = false: it never leads");
    let hint = told.hint(&Here { there: Some("uploads".to_owned()), ..Here::root("/srv/uploads") }).unwrap();
    assert_eq!(
        hint,
        "`speil promote uploads` on oslo makes that one primary; `speil promote uploads` on bergen makes that one primary"
    );
    let never = Err(refusal);
    assert_eq!(promote(Tree::Placed(&whole), &here(), &follower, Force::Half, id(9)), never);
}

#[test]
fn promote_of_a_tree_without_a_role_asks_the_others_first() {
    let plain = Tree::Plain { ours: false };
    let asked = |answer| Around { others: Others::Asked(vec![(host("bergen"), answer)]), ..around() };
    let promotes = |around: &Around, force| promote(plain, &here(), around, force, id(9));
    for answer in [Answer::Plain, Answer::Role(0)] {
        assert!(promotes(&asked(answer), Force::No).is_ok());
    }
    for answer in [Answer::Silent, Answer::Role(4)] {
        let others = vec![(host("bergen"), answer)];
        assert_eq!(promotes(&asked(answer), Force::No), Err(Refusal::OthersFirst { others }));
    }
    let Ok(Promotion::Makes(new)) = promotes(&asked(Answer::Role(4)), Force::Yes) else { panic!() };
    assert_eq!(new.n(), 5, "one more than the greatest that was answered");
    let unconfigured = Around { others: Others::Unconfigured, ..around() };
    assert_eq!(promotes(&unconfigured, Force::No), Err(Refusal::NobodyToAsk));
    assert!(promotes(&unconfigured, Force::Yes).is_ok());
}

#[test]
fn a_primary_steps_down_for_the_generation_that_is_promised_and_for_no_other() {
    let (old, standby) = (record(Role::Primary, g1()), record(Role::Standby, g1()));
    let promised = prepare(&standby, id(2)).unwrap();
    assert_eq!(prepare(&promised, id(8)), None);
    let coming = heard(Generation::after(promised.generation.as_ref(), promised.heard, id(2)));
    let down = hand_over(Tree::Placed(&old), &coming).unwrap();
    assert_eq!((down.role, down.mine), (Role::Standby, false));
    assert!(promotes(Tree::Placed(&down), Force::No).is_err(), "it waits");
    // The host that is promoted dies, starts again and is told of its own promise.
    assert_eq!(
        hear(&promised, &tells(&down, &host("oslo"))),
        None,
        "nothing new, and it takes no number away"
    );
    let Ok(Promotion::Makes(new)) = promotes(Tree::Placed(&promised), Force::No) else { panic!() };
    let led = new.generation.clone().unwrap();
    assert_eq!((led.id(), led.n(), new.coming), (id(2), coming.generation.n(), None));
    assert_eq!(admits(Tree::Placed(&down), led), Ok(Admission::Adopt(Why::Younger)));
    assert_eq!(hand_over(Tree::Placed(&standby), &coming), Err(Refusal::LeadsNothing));
    let strange = heard(generation(9, 8, &[7]));
    assert!(matches!(hand_over(Tree::Placed(&old), &strange), Err(Refusal::Diverged { .. })));
}

#[test]
fn demote_is_never_refused_and_a_copy_remembers_what_it_knew() {
    assert!(matches!(demote(Tree::Plain { ours: false }, &here()), Demotion::Joins(_)));
    assert!(matches!(demote(Tree::Unreadable, &here()), Demotion::Joins(_)));
    let copied = record(Role::Primary, g2());
    let Demotion::Joins(joined) = demote(Tree::Transplanted(&copied), &here()) else { panic!() };
    assert_eq!((joined.generation.clone(), joined.mine, joined.role), (None, false, Role::Standby));
    assert_eq!(admits(Tree::Placed(&joined), g1()), superseded(1, 2));
    let half = adopting(g2(), true);
    let Demotion::Joins(joined) = demote(Tree::Transplanted(&half), &here()) else { panic!() };
    assert!(joined.is_half(), "a copy of a half adopted tree is one");
    let led = hear(&record(Role::Primary, g1()), &[heard(g2())]).unwrap();
    let Demotion::Steps(down) = demote(Tree::Placed(&led), &here()) else { panic!() };
    assert!(!down.mine, "a younger generation is known");
}

#[test]
fn rejoin_chooses_one_truth_and_half_a_tree_stays_half() {
    let oslo = host("oslo");
    let rejoins = |at: &Record, led: Generation| rejoin(Tree::Placed(at), &oslo, Ok(&led), Some(id(90)));
    for role in [Role::Primary, Role::Standby] {
        let Ok(Rejoined::Chosen(new)) = rejoins(&record(role, g2()), other2()) else { panic!() };
        assert_eq!((new.role, new.is_half(), new.counts_as()), (Role::Standby, false, Some(&other2())));
        assert_eq!(rejoins(&new, other2()), Ok(Rejoined::Already));
        let Ok(Rejoined::Chosen(back)) = rejoins(&new, g2()) else { panic!() };
        assert_eq!(back.adopting, None, "nothing was changed yet");
    }
    let Ok(Rejoined::Chosen(new)) = rejoins(&adopting(g2(), true), other2()) else { panic!() };
    assert!(new.is_half());
    let at = record(Role::Standby, g2());
    assert_eq!(rejoins(&at, g1()), Err(Refusal::Older { host: oslo.clone(), theirs: 1, n: 2 }));
    let knows = hear(&at, &[heard(generation(3, 5, &[3, 1]))]).unwrap();
    assert!(matches!(rejoins(&knows, other2()), Err(Refusal::LedIsSuperseded { theirs: 3, .. })));
    let none = rejoin(Tree::Placed(&at), &oslo, Err(Leader::Unknown), Some(id(90)));
    assert_eq!(none, Err(Refusal::NoPrimary { host: oslo.clone(), who: Leader::Unknown }));
    let other = rejoin(Tree::Placed(&at), &oslo, Ok(&other2()), Some(id(91)));
    assert_eq!(other, Err(Refusal::OtherGroup { host: oslo.clone() }));
    assert_eq!(rejoin(Tree::Plain { ours: true }, &oslo, Ok(&g1()), None), Err(Refusal::NotJoined));
}

#[test]
fn the_later_verb_counts_and_a_reboot_ends_what_was_intended() {
    let first = Intent::next(None, Verb::Promote, id(1));
    assert!(Intent::is_promoting(Some(&first), id(1)) && !Intent::is_promoting(Some(&first), id(2)));
    assert!(!Intent::overtakes(Some(&first), first.ticket));
    let second = Intent::next(Some(&first), Verb::Demote, id(1));
    assert!(Intent::overtakes(Some(&second), first.ticket));
    assert!(!Intent::is_promoting(Some(&second), id(1)) && !Intent::is_promoting(None, id(1)));
    assert!(!Intent::is_promoting(Some(&Intent { done: true, ..first }), id(1)));
}

#[test]
fn every_refusal_says_the_state_and_what_to_type_on_this_host() {
    assert_eq!(
        Here::root("/srv/my uploads").types(&Command::Demote),
        "`speil demote --root '/srv/my uploads'` here"
    );
    let here = Here::of("uploads".to_owned());
    let oslo = host("oslo");
    let told = |refusal: Refusal| {
        let told = refusal.told();
        (told.hint(&here).unwrap_or_default(), told.line)
    };
    let (hint, line) = told(Refusal::Diverged { host: oslo.clone(), theirs: 4, n: 3, primary: false });
    assert_eq!(line, "oslo leads generation 4, this host is at 3, and neither came out of the other");
    assert_eq!(
        hint,
        "`speil rejoin uploads oslo` here brings this tree to that one; what only it holds is kept aside"
    );
    let (hint, line) = told(Refusal::SenderSuperseded { host: oslo.clone(), theirs: 1, n: 2 });
    assert_eq!(line, "oslo leads generation 1, but 2 is known here, which came after it");
    assert_eq!(hint, "`speil demote uploads` on oslo makes it a standby; what only it holds is kept aside");
    let by = host("bergen");
    let (hint, line) =
        told(Refusal::Unfit(Unfit::Superseded { by, theirs: 4, n: 3, primary: true, next: false }));
    assert_eq!(line, "this host led generation 3, but bergen knows 4; nothing is sent any more");
    assert_eq!(
        hint,
        "`speil demote uploads` here makes it a standby; what only it holds is kept aside; \
         `speil promote --force uploads` here starts a second truth, if that generation is lost for good"
    );
    let (hint, line) = told(Refusal::Unfit(Unfit::Adopting { n: 3, of: 4, begun: true }));
    assert_eq!(
        line,
        "the tree is half way from generation 3 to 4; it goes on when that one's primary is back"
    );
    assert!(hint.starts_with("`speil promote --force=half uploads` here "));
    let others = vec![(oslo.clone(), Answer::Role(4)), (host("tromso"), Answer::Silent)];
    let (_, line) = told(Refusal::OthersFirst { others });
    assert_eq!(line, "the tree has no role, and oslo is at generation 4, tromso does not answer");
    // One line each, and nothing that a name could forge.
    let evil = HostName::new("a`; rm -rf /\n\u{1b}[2J");
    let (hint, line) = told(Refusal::Diverged { host: evil, theirs: 4, n: 3, primary: true });
    assert!(!line.contains(['\n', '\u{1b}']) && hint.matches('`').count() == 2, "{hint}");
}

fn full() -> Record {
    let long = |number: u8| {
        Generation::new(u64::MAX, id(number), (0..ANCESTORS_MAX).map(|at| id(at as u8)).collect())
    };
    let wide = |number: u8| HeardOf { generation: long(number), host: HostName::new(&"x".repeat(400)) };
    Record {
        group: Some(id(90)),
        role: Role::Primary,
        generation: Some(long(1)),
        mine: true,
        coming: Some(id(2)),
        adopting: Some(Adoption { of: long(3), begun: true }),
        known: (0..KNOWN_MAX as u8).map(wide).collect(),
        heard: u64::MAX,
        starts: Starts { running: Some(id(5)), ended: vec![id(6); STARTS_MAX], seen: Some(id(7)) },
        ..Record::joined(TreeId { born: Some(-1), ..here() })
    }
}

#[test]
fn the_file_says_everything_within_its_bound_and_reads_back_equal() {
    for record in [
        full(),
        Record::joined(TreeId { born: None, ..here() }),
        record(Role::Primary, g3()),
        hear(&adopting(g2(), false), &[heard(g3())]).unwrap(),
    ] {
        let text = record.to_text();
        assert!(text.len() <= RECORD_LEN_MAX);
        assert_eq!(Record::from_text(text.as_bytes()), Ok(record));
    }
    let text = record(Role::Standby, g2()).to_text();
    let wanted = "speil role 1\n\
        # Written by speil: `speil promote`, `demote` and `rejoin` change it. An edit is refused.\n\
        role standby\n\
        generation 2 00000000000000000000000000000002\n  after 00000000000000000000000000000001\n\
        heard 2\n\
        group 0000000000000000000000000000005a\n\
        machine 00000000000000000000000000000064\ninode 7\nborn 5\n\
        running 00000000000000000000000000000032\nseen 0000000000000000000000000000003c\ncheck ";
    assert_eq!(text.rsplit_once("check ").unwrap().0.to_owned() + "check ", wanted);
}

#[test]
fn a_file_that_is_cut_short_edited_or_of_another_version_is_an_error_and_never_no_role() {
    let text = record(Role::Primary, g3()).to_text();
    let bytes = text.as_bytes();
    for len in 0..bytes.len() {
        assert!(Record::from_text(&bytes[..len]).is_err(), "{len} bytes");
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        assert!(Record::from_text(&bad).is_err(), "byte {at}");
    }
    assert_eq!(Record::from_text(text.replace("role 1", "role 2").as_bytes()), Err(BadRecord::Version));
    assert_eq!(Record::from_text(text.replace("primary", "standby").as_bytes()), Err(BadRecord::Damaged));
    assert_eq!(Record::from_text(&vec![b'x'; RECORD_LEN_MAX + 1]), Err(BadRecord::TooLong));
    let signed = |body: &str| {
        let check = &blake3::hash(body.as_bytes()).to_hex()[..16];
        Record::from_text(format!("{body}check {check}\n").as_bytes())
    };
    let body = text.rsplit_once("check ").unwrap().0;
    assert!(signed(body).is_ok());
    assert_eq!(signed(&format!("{body}colour red\n")), Err(BadRecord::Line(body.lines().count() + 1)));
    assert_eq!(signed(&format!("{body}heard 3\n")), Err(BadRecord::Line(body.lines().count() + 1)));
    assert_eq!(signed("speil role 1\n"), Err(BadRecord::Missing("machine")));
    assert_eq!(signed(&body.replace("inode 7\n", "")), Err(BadRecord::Missing("inode")));
    let flood = "  after 00000000000000000000000000000001\n".repeat(ANCESTORS_MAX + 1);
    let at = body.replacen("  after 00000000000000000000000000000002\n", &flood, 1);
    assert!(matches!(signed(&at), Err(BadRecord::Line(_))));
}

#[test]
fn who_leads_is_told_where_the_host_that_was_named_does_not() {
    let answered = |name: &str, record: Record| Answered { host: host(name), record };
    let hint = |named: &Answered, own: Option<&Answered>, all: &[Answered], everybody| {
        let who = Leader::instead_of(named, own, all, everybody);
        let told = Refusal::NoPrimary { host: named.host.clone(), who }.told();
        let here = Here { tree: "uploads".to_owned(), there: Some("--root /srv".to_owned()) };
        (told.line.clone(), told.hint(&here).unwrap_or_default())
    };
    let bergen = answered("bergen", record(Role::Standby, g2()));
    // Typed on the primary, towards its standby; nothing there names a promotion.
    let oslo = answered("oslo", record(Role::Primary, g2()));
    let (line, typed) = hint(&bergen, Some(&oslo), &[], true);
    assert!(line.contains("this host itself leads generation 2") && typed.is_empty(), "{line} {typed}");
    let apart = answered("bergen", record(Role::Standby, other2()));
    let (_, typed) = hint(&apart, Some(&oslo), &[], true);
    assert!(typed.starts_with("`speil rejoin --root /srv oslo` on bergen "), "{typed}");
    // Another one leads.
    let (line, typed) = hint(&bergen, None, &[bergen.clone(), oslo], true);
    assert!(line.contains("oslo leads generation 2"), "{line}");
    assert!(typed.starts_with("`speil rejoin uploads oslo` here "), "{typed}");
    // One that led before.
    let old = hear(&record(Role::Primary, g1()), &[heard(g2())]).unwrap();
    let old = answered("tromso", old);
    let (line, typed) = hint(&old, None, &[bergen.clone(), old.clone()], true);
    assert!(line.contains("tromso led generation 1") && typed.starts_with("`speil demote --root /srv` on"));
    // Who does not answer may lead.
    assert_eq!(hint(&bergen, None, std::slice::from_ref(&bergen), false).1, "");
    assert!(
        hint(&bergen, None, std::slice::from_ref(&bergen), true)
            .1
            .starts_with("`speil promote --root /srv` on bergen")
    );
}
