//! Reading files that nobody writes, that somebody does, and that several targets share.

use super::*;
use std::fs;

fn source(targets: usize) -> (tempfile::TempDir, Arc<Source>) {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::open(dir.path(), targets).unwrap();
    (dir, source)
}

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

fn read_all(file: &SourceFile) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match file.piece(all.len() as u64).unwrap() {
            Piece::Data(data) => all.extend_from_slice(&data),
            Piece::Hole(len) => all.resize(all.len() + len as usize, 0),
            Piece::End => return all,
        }
    }
}

#[test]
fn a_file_nobody_writes_is_confirmed_and_one_held_open_is_provisional() {
    let (dir, source) = source(1);
    fs::write(dir.path().join("f"), vec![7; 600_000]).unwrap();
    let mask = Mask::everything();
    let file = source.file(&path("f"), &mask, Instant::now()).unwrap();
    assert_eq!(read_all(&file), vec![7; 600_000]);
    assert!(
        matches!(file.finish().unwrap(), End::Version { provisional: false, hash, .. } if hash == *blake3::hash(&[7; 600_000]).as_bytes())
    );
    let writer = fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap();
    let file = source.file(&path("f"), &mask, Instant::now()).unwrap();
    read_all(&file);
    assert!(matches!(file.finish().unwrap(), End::Version { provisional: true, .. }));
    drop(writer);
}

#[test]
fn a_file_that_changes_under_the_reading_is_busy() {
    let (dir, source) = source(1);
    fs::write(dir.path().join("f"), vec![7; 600_000]).unwrap();
    let mask = Mask::everything();
    let file = source.file(&path("f"), &mask, Instant::now()).unwrap();
    file.piece(0).unwrap();
    fs::write(dir.path().join("f"), vec![8; 600_000]).unwrap();
    read_all(&file);
    assert!(matches!(file.finish().unwrap(), End::Busy));
}

#[test]
fn kept_small_files_hold_no_descriptor_and_can_still_be_taken() {
    let (dir, source) = source(2);
    fs::write(dir.path().join("f"), "content").unwrap();
    let file = source.file(&path("f"), &Mask::everything(), Instant::now()).unwrap();
    assert_eq!(read_all(&file), b"content");
    let End::Version { hash, .. } = file.finish().unwrap() else { panic!() };
    assert!(file.reading.lock().unwrap().open.is_none());
    assert_eq!(read_all(&file), b"content");
    assert!(matches!(file.finish().unwrap(), End::Version { hash: again, .. } if again == hash));
}

#[test]
fn a_file_that_fits_is_read_once_for_all_and_given_up_with_the_last_target() {
    let (dir, source) = source(2);
    fs::write(dir.path().join("f"), vec![7; 600_000]).unwrap();
    let issued = Instant::now();
    let (first, second) = (source.reader(), source.reader());
    let ask = || source.file(&path("f"), &Mask::everything(), issued).unwrap();
    let file = ask();
    assert_eq!(read_all(&file), vec![7; 600_000]);
    file.finish().unwrap();
    let number = file.number();
    drop((file, first));
    let again = ask();
    assert_eq!((again.number(), read_all(&again)), (number, vec![7; 600_000]));
    // Its pieces may go; its hash stays.
    again.strip();
    assert!(again.reading.lock().unwrap().behind.is_empty());
    assert_eq!(read_all(&again), vec![7; 600_000]);
    assert!(
        matches!(again.finish().unwrap(), End::Version { hash, .. } if hash == *blake3::hash(&[7; 600_000]).as_bytes())
    );
    drop((again, second));
    assert_ne!(ask().number(), number);
}

#[test]
fn holes_are_not_read_through() {
    let (dir, source) = source(1);
    let file = fs::File::create(dir.path().join("f")).unwrap();
    file.set_len(1 << 40).unwrap();
    drop(file);
    let file = source.file(&path("f"), &Mask::everything(), Instant::now()).unwrap();
    let reading = file.reading.lock().unwrap();
    let open = &reading.open.as_ref().unwrap().file;
    assert!(matches!(file.read(open, 0, Arc::default()).unwrap(), Piece::Hole(len) if len == 1 << 40));
}

#[test]
fn targets_share_a_reading_that_has_seen_their_change_and_no_other() {
    let (dir, source) = source(2);
    fs::write(dir.path().join("f"), b"one").unwrap();
    let issued = Instant::now();
    let mask = Mask::everything();
    let first = source.file(&path("f"), &mask, issued).unwrap();
    let second = source.file(&path("f"), &mask, issued).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let later = source.file(&path("f"), &mask, Instant::now()).unwrap();
    assert!(!Arc::ptr_eq(&first, &later));
}

#[test]
fn a_path_has_vanished_only_if_the_way_to_it_is_known() {
    let (dir, source) = source(1);
    fs::create_dir(dir.path().join("d")).unwrap();
    assert!(source.vanished(&path("d/none")).unwrap());
    assert!(source.vanished(&path("none/x/y")).unwrap());
    assert!(!source.vanished(&path("d")).unwrap());
    fs::write(dir.path().join("f"), b"").unwrap();
    assert!(source.vanished(&path("f/x/y")).unwrap());
    assert!(!source.vanished(&path("f")).unwrap());
    assert!(!source.vanished(&RelPath::root()).unwrap());
}

#[test]
fn a_file_is_removed_only_while_it_is_what_was_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["same", "changed", "stamped", "written", "replaced", "linked"] {
        fs::write(at(name), "content").unwrap();
    }
    fs::hard_link(at("linked"), at("other")).unwrap();
    let source = Source::open(dir.path(), 1).unwrap();
    let look = |name: &str| source.entry(&path(name), &Mask::nothing()).unwrap().unwrap();
    let seen = ["same", "changed", "stamped", "written", "replaced", "other"].map(|name| (name, look(name)));
    fs::write(at("changed"), "longer content").unwrap();
    // The same size and time, and another content: the change time alone tells.
    let time = fs::metadata(at("stamped")).unwrap().modified().unwrap();
    while look("stamped").ctime == seen[2].1.ctime {
        fs::write(at("stamped"), "CONTENT").unwrap();
        fs::File::options().write(true).open(at("stamped")).unwrap().set_modified(time).unwrap();
    }
    let _writer = fs::File::options().append(true).open(at("written")).unwrap();
    fs::rename(at("replaced"), at("away")).unwrap();
    fs::write(at("replaced"), "content").unwrap();
    fs::remove_file(at("linked")).unwrap();
    for (name, entry) in &seen {
        let gone = source.remove(&path(name), entry, *name == "other").unwrap() == Removal::Done;
        assert_eq!(gone, matches!(*name, "same" | "other"), "{name}");
        assert_eq!(at(name).exists(), !gone, "{name}");
    }
}
