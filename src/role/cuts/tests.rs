//! Which files are doubted, note by note.

use super::*;

fn id(number: u8) -> Id {
    let mut bytes = [0; 16];
    bytes[15] = number;
    Id::from_bytes(bytes)
}

fn here() -> TreeId {
    TreeId { machine: id(100), inode: 7, born: Some(5) }
}

fn shown(boot: u8, booted: i64, secs: i64) -> Shown {
    Shown { secs, offset: booted * SECOND, boot: id(boot) }
}

fn cut(of: u8, until: u64, read: u64) -> Cut {
    Cut { of: id(of), until, read }
}

#[test]
fn two_trees_are_alike_up_to_what_both_hold_each_by_its_own_clock() {
    let mut standby = Cuts::default();
    for (until, read, secs) in [(98, 97, 5000), (108, 112, 5010), (118, 117, 5020)] {
        standby.add(cut(1, until, read), shown(1, 0, secs));
    }
    let now = shown(1, 0, 9000);
    assert_eq!(standby.common(&[(id(2), 500)]), None, "another start");
    let both = standby.common(&[(id(2), 500), (id(1), 110)]);
    assert_eq!(both, Some((id(1), 110)));
    assert_eq!(
        standby.doubtful((id(1), 110), now),
        Some(5000),
        "at 5010 it may have held what was changed at 111"
    );
    assert_eq!(standby.doubtful((id(1), 118), now), Some(5020));
    assert_eq!(standby.doubtful((id(1), 90), now), None, "nothing is known of that time");
    // The start of another primary: what was noted before it holds nothing of it.
    standby.add(cut(2, 3, 4), shown(1, 0, 6000));
    assert_eq!(standby.doubtful((id(2), 3), now), Some(5020));
    assert_eq!(standby.held(), [(id(1), 118), (id(2), 3)]);
}

#[test]
fn a_clock_that_was_set_back_makes_more_doubtful() {
    let mut cuts = Cuts::default();
    cuts.add(cut(1, 98, 97), shown(1, 1000, 5000));
    let doubtful = |cuts: &Cuts, now| cuts.doubtful((id(1), 98), now);
    assert_eq!(doubtful(&cuts, shown(1, 1000, 9000)), Some(5000));
    assert_eq!(doubtful(&cuts, shown(1, 1600, 9600)), Some(5000), "set forward");
    assert_eq!(doubtful(&cuts, shown(1, 400, 8400)), Some(4399), "by 600 s in one boot");
    assert_eq!(doubtful(&cuts, shown(2, 6000, 9000)), Some(5000), "another boot, and the clock goes on");
    assert_eq!(doubtful(&cuts, shown(2, 3000, 4000)), None, "another boot, and the clock is behind");
    // It was seen to be behind, and is right again.
    assert!(!cuts.look(shown(2, 5500, 6000)));
    assert!(cuts.look(shown(2, 3000, 4000)));
    assert_eq!(doubtful(&cuts, shown(2, 8000, 9000)), None);
    let mut cuts = Cuts::default();
    cuts.add(cut(1, 98, 97), shown(1, 1000, 5000));
    assert!(cuts.look(shown(1, 400, 4500)));
    assert_eq!(doubtful(&cuts, shown(1, 1000, 9000)), Some(4399));
}

#[test]
fn cuts_are_of_one_place_and_their_number_is_bounded() {
    let mut cuts = Cuts::default();
    for start in 1..=20 {
        for at in 0..200_u64 {
            cuts.add(cut(start, at, at), shown(1, 0, i64::from(start) * 1000 + at.cast_signed()));
        }
    }
    let text = cuts.to_text(&here());
    assert!(text.lines().count() < 12 * 33 && text.len() < CUTS_LEN_MAX, "{}", text.lines().count());
    assert_eq!(Cuts::from_text(&text, &here()), cuts);
    assert_eq!(cuts.held().first(), Some(&(id(9), 199)), "of the oldest starts nothing is known");
    let now = shown(1, 0, 99_000);
    assert_eq!(cuts.doubtful((id(20), 195), now), Some(20_195));
    let far = cuts.doubtful((id(20), 100), now);
    assert!(far.is_some_and(|secs| (20_000..=20_100).contains(&secs)), "{far:?} {text}");
    let elsewhere = TreeId { inode: 8, ..here() };
    assert_eq!(Cuts::from_text(&text, &elsewhere), Cuts::default());
    assert_eq!(Cuts::from_text(&text[..text.len() - 9], &here()), Cuts::default(), "cut short");
    assert_eq!(Cuts::from_text("speil cuts 2\n", &here()), Cuts::default());
}
