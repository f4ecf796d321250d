use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::ring::{Arrival, Arrivals, Ring};
use super::*;

fn path(name: &str) -> RelPath {
    RelPath::try_from(name).unwrap()
}

fn paths(names: &[&str]) -> Arrival {
    Arrival::Paths(names.iter().map(|name| Changed { path: path(name), whole: false }).collect())
}

fn told(names: &[&str]) -> Told {
    let mut told = Told::default();
    names.iter().for_each(|name| told.add(Changed { path: path(name), whole: false }));
    told
}

fn state(root: &Path) -> Option<OwnedFd> {
    File::open(root.join(".speil")).ok().map(Into::into)
}

/// A session's gathering, in a root that has a ring.
fn session(root: &Path) -> Gathering {
    Gathering::new(&Root::open(root).unwrap(), None, false)
}

fn put(gathering: &mut Gathering, name: &str) {
    let change =
        gathering.begin(&ToReceiver::Link { path: path(name), existing: path("other"), expect: Expect::Any });
    if let Some(change) = change {
        gathering.done(&path(name), change);
    }
}

fn batch(gathering: &mut Gathering, names: &[&str]) {
    names.iter().for_each(|name| put(gathering, name));
    let told = gathering.commit();
    gathering.notebook.durable(told);
}

#[test]
fn each_batch_is_told_once_and_sessions_that_end_in_order_hide_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Arrivals::open(dir.path()).unwrap();
    assert_eq!(reader.take().unwrap(), []);
    let mut one = session(dir.path());
    batch(&mut one, &["b", "a"]);
    batch(&mut one, &[]);
    batch(&mut one, &["c"]);
    assert_eq!(reader.take().unwrap(), [paths(&["a", "b"]), paths(&["c"])]);
    one.finish();
    let mut other = session(dir.path());
    batch(&mut other, &["d"]);
    assert_eq!(reader.take().unwrap(), [paths(&["d"])]);
    assert_eq!(reader.take().unwrap(), []);
}

#[test]
fn what_was_done_and_not_told_makes_the_next_record_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Arrivals::open(dir.path()).unwrap();
    // Killed before its first batch was durable.
    let mut killed = session(dir.path());
    put(&mut killed, "a");
    let mut next = session(dir.path());
    batch(&mut next, &["b"]);
    batch(&mut next, &["c"]);
    assert_eq!(reader.take().unwrap(), [Arrival::Everything, paths(&["c"])]);
    // Cut off in the middle of a batch.
    put(&mut next, "d");
    next.finish();
    let mut last = session(dir.path());
    batch(&mut last, &["e"]);
    assert_eq!(reader.take().unwrap(), [Arrival::Everything]);
    // It does not stay so.
    last.finish();
    batch(&mut session(dir.path()), &["f"]);
    assert_eq!(reader.take().unwrap(), [paths(&["f"])]);
}

#[test]
fn who_listens_in_the_middle_of_a_session_is_told_of_everything_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".speil")).unwrap();
    let mut session = session(dir.path());
    batch(&mut session, &["a"]);
    assert!(!dir.path().join(".speil/arrived").exists(), "nobody has asked for it");
    put(&mut session, "b");
    let mut reader = Arrivals::open(dir.path()).unwrap();
    batch(&mut session, &["c"]);
    batch(&mut session, &["d"]);
    assert_eq!(reader.take().unwrap(), [Arrival::Everything, paths(&["d"])]);
    // Somebody removes the ring, and makes another one.
    std::fs::remove_file(dir.path().join(".speil/arrived")).unwrap();
    let mut other = Arrivals::open(dir.path()).unwrap();
    batch(&mut session, &["e"]);
    batch(&mut session, &["f"]);
    assert_eq!(other.take().unwrap(), [paths(&["e"]), paths(&["f"])]);
    assert_eq!(reader.take().unwrap(), [Arrival::Everything, paths(&["f"])], "a gap is noticed");
}

#[test]
fn a_reader_goes_on_where_it_was_and_knows_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Arrivals::open(dir.path()).unwrap();
    let mut session = session(dir.path());
    batch(&mut session, &["a"]);
    reader.take().unwrap();
    let position = reader.position();
    batch(&mut session, &["b"]);
    let mut again = Arrivals::open(dir.path()).unwrap();
    assert_eq!(again.take().unwrap(), []);
    again.go_on(position).unwrap();
    assert_eq!(again.take().unwrap(), [paths(&["b"])]);
    // Three files' worth of records.
    let many: Vec<String> = (0..1500).map(|n| format!("directory-{n}/{}", "x".repeat(40))).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.sort_unstable();
    (0..18).for_each(|_| batch(&mut session, &many));
    again.go_on(position).unwrap();
    let all = again.take().unwrap();
    assert_eq!(all[0], Arrival::Everything);
    assert!(all.len() > 1 && all[1..].iter().all(|it| *it == paths(&many)), "{}", all.len());
    let files = std::fs::read_dir(dir.path().join(".speil")).unwrap();
    let len: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(len < 2 << 20, "{len}");
}

#[test]
fn a_large_batch_is_everything_and_a_batch_that_is_cut_off_on_the_disk_is_not_told_half() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Arrivals::open(dir.path()).unwrap();
    let mut one = session(dir.path());
    let many: Vec<String> = (0..5000).map(|n| format!("{n:060}")).collect();
    batch(&mut one, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(reader.take().unwrap(), [Arrival::Everything]);
    batch(&mut one, &["a"]);
    let file = dir.path().join(".speil/arrived");
    let len = file.metadata().unwrap().len();
    File::options().write(true).open(&file).unwrap().set_len(len - 1).unwrap();
    assert_eq!(reader.take().unwrap(), []);
    // What the power cut took away is told by the next session.
    batch(&mut session(dir.path()), &["b"]);
    assert_eq!(reader.take().unwrap(), [Arrival::Everything]);
}

#[test]
fn batches_that_are_flushed_together_are_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Arrivals::open(dir.path()).unwrap();
    let notebook = session(dir.path()).notebook;
    let mut joined = told(&["a", "b"]);
    joined.join(told(&["b", "c"]));
    notebook.durable(joined);
    assert_eq!(reader.take().unwrap(), [paths(&["a", "b", "c"])]);
}

#[test]
fn a_ring_that_is_no_file_is_not_written_to_and_foreign_bytes_are_no_records() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".speil")).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, "").unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.path().join(".speil/arrived")).unwrap();
    let mut ring = Ring::new(state(dir.path()).unwrap());
    assert!(!ring.look());
    Arrivals::open(dir.path()).unwrap_err();
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"");
    std::fs::remove_file(dir.path().join(".speil/arrived")).unwrap();
    let mut reader = Arrivals::open(dir.path()).unwrap();
    std::fs::write(dir.path().join(".speil/arrived"), vec![0xff; 1 << 21]).unwrap();
    assert_eq!(reader.take().unwrap(), []);
}
