//! Cases that have a name: what somebody types in each of them, because a message says so.

use speil::role::{Command, Force};

use crate::events::{CLASSES, Event, VRRP};
use crate::judge::Ways;
use crate::world::{NAMES, Pool, State, name};

/// Returns what is typed after a history, on which host.
fn typed_after(history: &[Event]) -> Vec<(&'static str, Command)> {
    let mut pool = Pool::new(None);
    let mut budget = [9; CLASSES];
    budget[VRRP] = 0;
    let mut s = State::first(&mut pool, true, budget);
    for event in history {
        s = event.apply(&mut pool, &s).unwrap().unwrap_or_else(|| panic!("{event:?} changes nothing"));
    }
    let typed = Ways::default().typed(&mut pool, &s).unwrap();
    typed.into_iter().map(|(h, command)| (NAMES[h], command)).collect()
}

/// bergen takes over from oslo, which is there.
const SWITCH: [Event; 6] =
    [Event::Connect(0, 1), Event::Pass(1), Event::Promote(1), Event::Step(1), Event::Step(1), Event::Step(1)];

/// bergen takes over from oslo, and tromso has just begun to adopt it.
fn half_adopted() -> Vec<Event> {
    let mut history = vec![Event::Snapshot(1)];
    history.extend(SWITCH);
    history.extend([Event::Upload(1), Event::Connect(1, 2), Event::PartOfPass(2)]);
    history
}

/// The two cases that the model before this one left open. Nobody holds the second generation whole any more, and no
/// host can know whether bergen's disk comes back: so somebody says it, once, and the others follow by name.
#[test]
fn a_disk_that_is_lost_while_another_host_is_half_adopted_has_a_way_out() {
    for fault in [Event::EmptyDisk(1), Event::Restore(1), Event::StateGone(1)] {
        let mut history = half_adopted();
        history.push(fault);
        let typed = typed_after(&history);
        let forced =
            typed.iter().filter(|(_, command)| matches!(command, Command::Promote(Force::Yes | Force::Half)));
        assert_eq!(forced.count(), 1, "{fault:?}: {typed:?}");
        assert!(typed.len() <= 3, "{fault:?}: {typed:?}");
        println!("{fault:?}: {typed:?}");
    }
}

#[test]
fn a_power_cut_of_everybody_needs_no_command() {
    let cuts = [0, 1, 2].map(Event::PowerCut);
    assert_eq!(typed_after(&cuts), []);
}

#[test]
fn a_switch_needs_one_command_and_nobody_else_is_asked() {
    assert_eq!(typed_after(&SWITCH), []);
}

#[test]
fn the_old_primary_that_comes_back_alone_needs_one_demote_there() {
    let mut died =
        vec![Event::PowerCut(0), Event::Promote(1), Event::Step(1), Event::Step(1), Event::Upload(1)];
    died.push(Event::Boot(0));
    assert_eq!(typed_after(&died), [("oslo", Command::Demote)]);
}

#[test]
fn a_split_brain_needs_one_rejoin_where_the_other_truth_is() {
    let mut split = vec![Event::Cut(1), Event::Cut(4)];
    // bergen is promoted on its own side, oslo goes on and forces a truth of its own as if it had heard of nothing.
    split.extend([Event::Promote(1), Event::Step(1), Event::Step(1), Event::Upload(1), Event::Upload(0)]);
    split.extend([Event::Cut(2), Event::Promote(2), Event::Step(2), Event::Step(2)]);
    let typed = typed_after(&split);
    assert!(
        typed.iter().all(|(_, command)| matches!(command, Command::Demote | Command::Rejoin(_))),
        "{typed:?}"
    );
    assert!(
        typed
            .iter()
            .any(|(_, command)| *command == Command::Rejoin(name(1)) || *command == Command::Rejoin(name(2)))
    );
}
