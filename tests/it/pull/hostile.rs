//! A far side that lies: what it says decides what is sent, and nothing else.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use speil::event::RescanReason;
use speil::protocol::{
    Account, Arrival, Expect, Failure, FrameWriter, FromFar, Hello, MAGIC, StateMode, ToReceiver, Unsent,
    Word,
};
use speil::tree::{Attrs, Kind, Mask, Meta, RelPath, Time};

use super::Scene;
use crate::attack::client::hello;
use crate::support::command::{Background, Outcome};

fn path(text: &str) -> RelPath {
    RelPath::try_from(text).unwrap()
}

fn put(name: &str, content: &'static [u8]) -> ToReceiver<'static> {
    let meta = Meta {
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: content.len() as u64,
        mtime: Time::default(),
        rdev: 0,
    };
    ToReceiver::Put {
        path: path(name),
        attrs: Attrs { meta, symlink: Vec::new(), xattrs: Vec::new() },
        hash: *blake3::hash(content).as_bytes(),
        provisional: false,
        data: Cow::Borrowed(content),
    }
}

/// Returns what a sender says, as it travels to the receiver.
fn session(hello: Hello, messages: &[ToReceiver<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(&mut bytes);
    writer.raw(&MAGIC).unwrap();
    writer.send(&ToReceiver::Hello(Box::new(hello))).unwrap();
    messages.iter().for_each(|message| writer.send(message).unwrap());
    bytes
}

/// Pulls from a far side that says this, whatever it is told.
fn pull(scene: &Scene, options: &[&str], said: &[FromFar<'_>]) -> Outcome {
    start(scene, "sync", &[&["-a"], options].concat(), said).wait()
}

fn start(scene: &Scene, verb: &str, options: &[&str], said: &[FromFar<'_>]) -> Background {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(&mut bytes);
    writer.raw(&MAGIC).unwrap();
    said.iter().for_each(|message| writer.send(message).unwrap());
    fs::write(scene.path("said"), bytes).unwrap();
    // It goes when it has been asked to by the end of what it is told.
    let script = format!("#!/bin/sh\ncat {}\nexec cat >/dev/null\n", scene.path("said").display());
    fs::write(scene.path("shell"), script).unwrap();
    fs::set_permissions(scene.path("shell"), fs::Permissions::from_mode(0o755)).unwrap();
    let shell = scene.path("shell").display().to_string();
    let words = [verb, "-e", &shell].into_iter().chain(options.iter().copied());
    let mut command = scene.env.speil(words.chain(["host:/s/", "t/"]));
    command.current_dir(scene.dir.path()).env("XDG_RUNTIME_DIR", scene.env.home());
    Background::spawn(command)
}

fn data(bytes: Vec<u8>) -> FromFar<'static> {
    FromFar::Data(Cow::Owned(bytes))
}

fn done() -> FromFar<'static> {
    FromFar::Done(Box::default())
}

#[test]
fn what_the_far_side_says_of_the_target_is_not_heeded() {
    let scene = Scene::new();
    fs::create_dir(scene.path("other")).unwrap();
    let lie = Hello {
        root: scene.path("other").display().to_string().into_bytes(),
        force_root: true,
        dry_run: false,
        state: StateMode::Keep,
        mask: Mask::everything(),
        filters: Vec::new(),
        makes: 2,
        ..hello()
    };
    let said = [
        data(session(
            lie,
            &[
                put("a", b"x"),
                put("b.key", b"x"),
                put("private/c", b"x"),
                ToReceiver::Commit { batch: 1 },
                ToReceiver::Bye,
            ],
        )),
        FromFar::Closed,
        done(),
    ];
    let _ = pull(&scene, &["-n"], &said);
    assert!(!scene.path("t").exists(), "a dry run makes nothing");
    let _ = pull(&scene, &["--exclude=*.key", "--exclude=/private/"], &said);
    let there = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(scene.path(dir)).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    assert_eq!(there("t"), ["a"], "below the target, and nothing that is left out");
    assert_eq!(there("other"), [""; 0]);
    // Nor is what is left out removed.
    fs::write(scene.path("t/mine.key"), "mine").unwrap();
    let delete =
        |name: &str| ToReceiver::Delete { path: path(name), expect: Expect::Any, keep_strangers: false };
    let rename = || ToReceiver::Rename { from: path("a"), to: path("b"), expect: Expect::Any };
    let said_delete = [
        data(session(hello(), &[delete("mine.key"), delete("a"), rename(), ToReceiver::Bye])),
        FromFar::Closed,
        done(),
    ];
    let _ = pull(&scene, &[], &said_delete);
    assert_eq!(there("t").len(), 2, "without --delete nothing goes");
    assert_eq!(fs::read(scene.path("t/a")).unwrap(), b"x");
    let _ = pull(&scene, &["--exclude=*.key", "--delete"], &said_delete);
    assert_eq!(there("t"), ["mine.key"]);
    fs::write(scene.path("t/a"), b"x").unwrap();
    fs::remove_file(scene.path("t/mine.key")).unwrap();
    // An existing target is not written either.
    let said = [data(session(hello(), &[put("a", b"changed"), ToReceiver::Bye])), FromFar::Closed, done()];
    let _ = pull(&scene, &["-n"], &said);
    assert_eq!(fs::read(scene.path("t/a")).unwrap(), b"x");
}

#[test]
fn no_byte_of_the_far_side_drives_the_terminal_and_no_word_hides_how_it_ended() {
    let scene = Scene::new();
    let forged = || "\u{1b}[2Jspeil: all is well\r\n\u{202e}".to_owned();
    let told = |word: Word| FromFar::Told(Box::new(word));
    let words = || {
        vec![
            told(Word::Warning { text: forged(), hint: Some(forged()) }),
            told(Word::Problem { path: path("\u{1b}[2J"), operation: forged(), errno: 13, on_target: false }),
            told(Word::Held { count: 1, reason: forged(), first: vec![path("\u{1b}[2J")] }),
            told(Word::Detail(forged())),
            told(Word::Stays(path("\u{1b}[2J"))),
            told(Word::Vanished(path("\u{1b}[2J"))),
        ]
    };
    let failure = |code| {
        let failure = Failure::Other { text: forged(), hint: Some(forged()), code };
        FromFar::Done(Box::new(Account { failure: Some(failure), ..Account::default() }))
    };
    let plain = |outcome: &Outcome| {
        for text in [&outcome.stdout, &outcome.stderr] {
            let bad = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
            assert_eq!(bad, None, "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("speil: all is well")), "{text}");
        }
    };
    for (end, code) in [
        (done(), 24),
        (failure(0), 12),
        (failure(23), 23),
        (failure(77), 12),
        (FromFar::Unsent(Unsent::Edition { edition: 9, program: forged() }), 2),
    ] {
        let mut said = words();
        said.push(end);
        let outcome = pull(&scene, &["-vv"], &said);
        plain(&outcome);
        assert_eq!(outcome.code(), code, "{}", outcome.stderr);
    }
    // Words alone, or a session without an account, are no end.
    for said in
        [words(), vec![data(session(hello(), &[ToReceiver::Bye])), FromFar::Closed], vec![data(vec![0; 100])]]
    {
        let outcome = pull(&scene, &["--timeout=10"], &said);
        plain(&outcome);
        assert!(matches!(outcome.code(), 12 | 30), "{}: {}", outcome.code(), outcome.stderr);
    }
}

#[test]
fn a_live_mirror_heeds_no_more_of_what_the_far_side_says() {
    let scene = Scene::new();
    fs::create_dir(scene.path("other")).unwrap();
    let lie = || Hello {
        root: scene.path("other").display().to_string().into_bytes(),
        force_root: true,
        state: StateMode::Traceless,
        mask: Mask::everything(),
        filters: Vec::new(),
        makes: 2,
        ..hello()
    };
    let delete =
        |name: &str| ToReceiver::Delete { path: path(name), expect: Expect::Any, keep_strangers: false };
    let rename = || ToReceiver::Rename { from: path("a"), to: path("b"), expect: Expect::Any };
    let say = |messages: &[ToReceiver<'_>]| [data(session(lie(), messages)), FromFar::Closed, done()];
    let mirror = |options: &[&str], said: &[FromFar<'_>]| {
        let mirror = start(&scene, "mirror", options, said);
        mirror.wait_for_error_line("the source's host has ended the mirror; retry 1");
        assert_eq!(mirror.terminate().code(), 0);
    };
    let there = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(scene.path(dir)).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let puts = [
        put("a", b"x"),
        put("b.key", b"x"),
        put(".speil/role", b"x"),
        ToReceiver::Commit { batch: 1 },
        ToReceiver::Bye,
    ];
    mirror(&["--exclude=*.key"], &say(&puts));
    assert_eq!(there("t"), [".speil", "a"], "below the target, and nothing that is left out");
    assert!(!scene.path("t/.speil/role").exists());
    assert_eq!(there("other"), [""; 0]);
    fs::write(scene.path("t/mine.key"), "mine").unwrap();
    let deletes = say(&[delete("mine.key"), delete("a"), rename(), ToReceiver::Bye]);
    mirror(&["--exclude=*.key", "--no-delete"], &deletes);
    assert_eq!(there("t"), [".speil", "a", "mine.key"], "without --delete nothing goes");
    mirror(&["--exclude=*.key"], &deletes);
    assert_eq!(there("t"), [".speil", "mine.key"], "what is left out stays");
}

#[test]
fn a_live_far_side_drives_no_terminal_and_what_it_answers_unasked_is_nothing() {
    let scene = Scene::new();
    let forged = || "\u{1b}[2Jspeil: all is well\r\n\u{202e}".to_owned();
    let told = |word: Word| FromFar::Told(Box::new(word));
    let arrival = Arrival { what: forged(), path: path("\u{1b}[2J"), from: None, took_ms: None };
    let status = format!(
        "{{\"status\":{{\"syncs\":[{{\"name\":{0:?},\"targets\":[{{\"state\":{0:?}}}]}}]}}}}",
        "\u{9b}2J"
    );
    let said = [
        data(session(hello(), &[])),
        told(Word::Connected(forged(), vec![forged()], forged())),
        told(Word::Message(forged())),
        told(Word::SetAside(path("\u{1b}[2J"))),
        told(Word::Rescan(path("\u{1b}[2J"), RescanReason::Start)),
        told(Word::Arrived(vec![arrival; 3])),
        FromFar::Answer { id: 0, answer: Cow::Owned(b"{\"Done\":".to_vec()) },
        FromFar::Answer { id: 7, answer: Cow::Owned(status.into_bytes()) },
        FromFar::Closed,
        done(),
    ];
    let mirror = start(&scene, "mirror", &["-vv"], &said);
    mirror.wait_for_error_line("the source's host has ended the mirror");
    let ask = |words: &[&str]| {
        let mut command = scene.env.speil(words);
        command.env("XDG_RUNTIME_DIR", scene.env.home());
        Background::spawn(command).wait()
    };
    let outcomes = [ask(&["status"]), ask(&["log"]), ask(&["wait", "--timeout=1"]), mirror.terminate()];
    assert_eq!(outcomes[2].code(), 12, "nothing is in step: {}", outcomes[2].stderr);
    for outcome in &outcomes {
        for text in [&outcome.stdout, &outcome.stderr] {
            let bad = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
            assert_eq!(bad, None, "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("speil: all is well")), "{text}");
        }
    }
}
