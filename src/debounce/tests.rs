//! The rules, one case per file in `tests/data/debounce`; and whether the rules are enough.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Debounce, Item, Options};
use crate::batch::{Change, ChangeKind, Extent, Identity, Naming};
use crate::event::{Age, Event, EventKind, Moment, RescanReason};
use crate::tree::{FileId, RelPath};

mod model;

/// Cases that there are at least: an empty directory proves nothing.
const CASES_MIN: usize = 40;

fn options() -> Options {
    Options {
        delay: Duration::from_millis(20),
        max_delay: Duration::from_secs(2),
        max_open: Duration::from_secs(60),
        delete_quiet: Duration::from_secs(1),
        delete_wait_max: Duration::from_secs(10),
        few_deletes: 3,
        paths_max: 1000,
    }
}

fn path(text: &str) -> RelPath {
    let text = text.trim_end_matches('/');
    RelPath::try_from(if text == "." { "" } else { text }).unwrap()
}

/// Runs a script. A line is `<n>ms <what>`, and after `due` and `drain` what is expected is listed, each
/// item on an indented line; `deadline` and `pending` are compared at once. A path with a slash at its end
/// is a directory. `paths_max <n>` at the top changes that option.
fn check(script: &str) -> Result<(), String> {
    let mut options = options();
    let start = Instant::now();
    let mut debounce: Option<Debounce> = None;
    let mut unmatched: Vec<String> = Vec::new();
    let (mut claims, mut clock) = (0, 0);
    let lines = script.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    for line in lines {
        if let Some(expected) = line.strip_prefix("  ") {
            let found = if unmatched.is_empty() { "nothing".to_owned() } else { unmatched.remove(0) };
            if found != expected {
                return Err(format!("expected {expected:?}, found {found:?}"));
            }
            claims += 1;
            continue;
        }
        if let Some(extra) = unmatched.first() {
            return Err(format!("before {line:?}: nobody expected {extra:?}"));
        }
        if let Some(max) = line.strip_prefix("paths_max ") {
            options.paths_max = max.parse().map_err(|_| format!("bad number in {line:?}"))?;
            continue;
        }
        let (ms, words) = line.split_once("ms ").ok_or_else(|| format!("no time in {line:?}"))?;
        let ms: u64 = ms.parse().map_err(|_| format!("bad time in {line:?}"))?;
        if ms < clock {
            return Err(format!("{line:?} goes back in time"));
        }
        clock = ms;
        let now = start + Duration::from_millis(ms);
        let words: Vec<&str> = words.split(' ').collect();
        let debounce = debounce.get_or_insert_with(|| Debounce::new(options.clone()));
        let since = |at: Instant| format!("{}ms", at.duration_since(start).as_millis());
        match words.as_slice() {
            ["due"] => {
                unmatched = debounce.due(now).iter().map(|item| shown(item, since)).collect();
                if debounce.deadline().is_some_and(|next| next <= now) {
                    return Err(format!("{line:?} leaves something due"));
                }
            }
            ["drain"] => unmatched = debounce.drain_all(now).iter().map(|item| shown(item, since)).collect(),
            ["deadline", expected] => {
                let next = debounce.deadline().map_or("none".to_owned(), since);
                if next != *expected {
                    return Err(format!("{line:?}, but it is {next}"));
                }
                claims += 1;
            }
            ["pending", count, "since", expected] => {
                let (held, oldest) = debounce.pending();
                let found = (held.to_string(), oldest.map_or("none".to_owned(), since));
                if (found.0.as_str(), found.1.as_str()) != (count, expected) {
                    return Err(format!("{line:?}, but it is {found:?}"));
                }
                claims += 1;
            }
            words => tell(debounce, words, now).ok_or_else(|| format!("what is {line:?}?"))?,
        }
    }
    if let Some(extra) = unmatched.first() {
        return Err(format!("at the end nobody expected {extra:?}"));
    }
    if claims == 0 { Err("claims nothing".to_owned()) } else { Ok(()) }
}

fn tell(debounce: &mut Debounce, words: &[&str], now: Instant) -> Option<()> {
    let span = |text: &str| Some(Duration::from_millis(text.strip_suffix("ms")?.parse().ok()?));
    let dir = words.get(1)?.ends_with('/');
    let kind = match words {
        ["create", at] => EventKind::Create { path: path(at), dir },
        ["modify", at] => EventKind::Modify(path(at)),
        ["close", at] => EventKind::CloseWrite(path(at)),
        ["attrib", at] => EventKind::Attrib { path: path(at), dir },
        ["delete", at] => EventKind::Delete { path: path(at), dir },
        ["joined", at, file] => {
            debounce.joined(path(at), FileId { dev: 1, ino: file.parse().ok()? }, Age::believed(now));
            return Some(());
        }
        ["move", from, "->", to] => EventKind::Move { from: path(from), to: path(to), dir },
        ["rescan", at] => EventKind::Rescan { path: path(at), reason: RescanReason::Unwatched },
        words => {
            match words {
                ["sent", at, took] => debounce.sent(&path(at), now, span(took)?),
                ["still_open", at] => debounce.still_open(&path(at), Age::believed(now)),
                ["again", at, after] => {
                    debounce.again(&path(at), now, span(after)?, (Age::believed(now), false))
                }
                ["gone", at] => debounce.gone(&path(at), None, now),
                _ => return None,
            }
            return Some(());
        }
    };
    debounce.event(Event { at: now, change: Moment::NEVER, kind });
    Some(())
}

fn shown(item: &Item, since: impl Fn(Instant) -> String + Copy) -> String {
    let change = |change: &Change| {
        let what = match &change.kind {
            ChangeKind::Update { path, scope } => {
                let scope = match scope {
                    Extent::Attributes => "attributes",
                    Extent::Content => "content",
                    Extent::Absent => "absent",
                };
                format!("update {} {scope}", name(path))
            }
            ChangeKind::Rename { from, to, .. } => format!("rename {} -> {}", name(from), name(to)),
            ChangeKind::Delete { path, expected } => {
                let expected = match expected {
                    Identity::Dir(true) => "dir",
                    Identity::Dir(false) => "file",
                    Identity::Any => "any",
                    Identity::Exactly(..) => "exactly",
                };
                format!("delete {} {expected}", name(path))
            }
            ChangeKind::Name { path, naming } => match naming {
                Naming::Of(file) => format!("name {} of {}", name(path), file.ino),
                Naming::Became(to) => format!("name {} became {}", name(path), name(to)),
                Naming::Lost(None) => format!("name {} lost", name(path)),
                Naming::Lost(Some(Extent::Attributes)) => format!("name {} lost with attributes", name(path)),
                Naming::Lost(Some(_)) => format!("name {} lost with content", name(path)),
            },
            ChangeKind::Rescan { path, reason } => format!("rescan {} {}", name(path), reason.word()),
        };
        format!("{what} since {}", since(change.age.since))
    };
    match item {
        Item::Change(one) => change(one),
        Item::Burst(burst) => {
            format!("burst: {}", burst.iter().map(change).collect::<Vec<_>>().join(", "))
        }
    }
}

fn name(path: &RelPath) -> String {
    if path.is_root() { ".".to_owned() } else { String::from_utf8_lossy(path.as_bytes()).into_owned() }
}

#[test]
fn every_case_holds() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/debounce");
    let cases: BTreeMap<_, _> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|(name, script)| check(script).err().map(|why| format!("{}: {why}", name.display())))
        .collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn a_case_that_is_malformed_or_claims_nothing_fails() {
    for bad in [
        "",
        "# only a comment",
        "0ms create a",
        "0ms due",
        "0ms creat a\n0ms due\n  nothing",
        "xms create a\n0ms due\n  nothing",
        "5ms create a\n0ms due\n  nothing",
        "0ms close a\n0ms due",
        "0ms close a\n0ms due\n  nothing",
        "0ms again a soon\n0ms due\n  nothing",
    ] {
        assert!(check(bad).is_err(), "{bad:?}");
    }
    assert_eq!(check("0ms close a\n0ms due\n  update a content since 0ms"), Ok(()));
}

#[test]
fn what_is_remembered_of_sent_paths_is_bounded() {
    let start = Instant::now();
    let mut debounce = Debounce::new(options());
    for i in 0..100_000_u64 {
        let at = start + Duration::from_micros(i);
        debounce.event(Event {
            at,
            change: Moment::NEVER,
            kind: EventKind::CloseWrite(path(&format!("f{i}"))),
        });
        debounce.due(at);
    }
    assert!(debounce.recent.len() <= 65_536, "{}", debounce.recent.len());
    for hours in 1..=2 {
        let at = start + Duration::from_secs(3600 * hours);
        debounce.event(Event { at, change: Moment::NEVER, kind: EventKind::CloseWrite(path("f")) });
        debounce.due(at);
    }
    assert_eq!(debounce.recent.len(), 2);
}
