//! A standby that lies, against a daemon that mirrors to an honest one as well.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use speil::protocol::{
    Confinement, FrameReader, FrameWriter, Identified, Limits, MAGIC, Refusal, ReplyHello, ToReceiver,
    ToSender, VERSION, Why, read_magic,
};
use speil::tree::{Mask, RelPath};

use super::client::path;
use crate::support::command::{Background, Environment, agent_command, eventually};

/// Bytes that must never be sent: they stand in what is excluded, and outside the source.
const SECRET: &[u8] = b"top secret, not offered";

/// One connection of the daemon to the liar.
struct Talk {
    reader: FrameReader<BufReader<File>>,
    writer: FrameWriter<File>,
    /// Everything that was heard, as text, and contents.
    heard: Arc<Mutex<Heard>>,
    /// What is said to have come torn, however often it is sent.
    torn: Option<RelPath>,
}

#[derive(Default)]
struct Heard {
    contents: Vec<u8>,
    names: Vec<RelPath>,
}

fn greeting() -> ReplyHello {
    ReplyHello {
        watermark: None,
        volume: None,
        role: None,
        version: VERSION,
        program: "0.1.0".to_owned(),
        profile: Mask::everything(),
        lacks: Vec::new(),
        identified: Identified::Ours,
        limits: Limits { streams: u32::MAX, name_len: 255 },
        session: 1,
        last_batch: 0,
        boot_id: "elsewhere".to_owned(),
        provisional: Vec::new(),
        mounts: Vec::new(),
        kept: 0,
        free_bytes: u64::MAX,
        confinement: Confinement::Landlock,
        lineage: Vec::new(),
        sent_away: String::new(),
    }
}

impl Talk {
    fn say(&mut self, message: &ToSender<'_>) -> bool {
        self.writer.send(message).and_then(|()| self.writer.flush()).is_ok()
    }

    /// Takes the hello and greets.
    fn greet(&mut self, greeting: ReplyHello) -> bool {
        let hello = matches!(self.reader.read::<ToReceiver<'_>>(), Ok(ToReceiver::Hello(_)));
        hello && self.say(&ToSender::Hello(Box::new(greeting)))
    }

    /// Plays an empty standby for one message; `false` at the end.
    fn serve(&mut self) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match self.reader.read::<ToReceiver<'_>>() {
            Ok(ToReceiver::Scan { pass, .. }) => {
                ToSender::Scanned { pass, top: None, links: [0; 32], entries: 0, problems: Vec::new() }
            }
            Ok(ToReceiver::Put { path, data, .. }) => {
                heard.contents.extend_from_slice(&data);
                heard.names.push(path.clone());
                if self.torn.as_ref() != Some(&path) {
                    return true;
                }
                ToSender::Undone { path, why: Why::Torn }
            }
            Ok(ToReceiver::Data { data, .. }) => {
                heard.contents.extend_from_slice(&data);
                return true;
            }
            Ok(ToReceiver::Open { path, .. } | ToReceiver::Mkdir { path, .. }) => {
                heard.names.push(path);
                return true;
            }
            Ok(ToReceiver::Sign { stream, .. }) => ToSender::NoBasis { stream },
            Ok(ToReceiver::Commit { batch }) => ToSender::Acked { batch },
            Ok(ToReceiver::Ping(number)) => ToSender::Pong(number),
            Ok(ToReceiver::Owners(_)) => ToSender::Owners(Default::default()),
            Ok(ToReceiver::Bye) | Err(_) => return false,
            Ok(_) => return true,
        };
        drop(heard);
        self.say(&answer)
    }
}

/// A daemon with two syncs of one source: one to a liar, one to an honest standby.
struct Stand {
    dir: tempfile::TempDir,
    heard: Arc<Mutex<Heard>>,
    /// Connections that the liar has had.
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    daemon: Option<Background>,
    /// The daemon is told to stop in the end, and does.
    stops: bool,
}

impl Stand {
    fn new(lie: impl Fn(&mut Talk) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("source/secret")).unwrap();
        fs::create_dir_all(at("outside")).unwrap();
        fs::write(at("source/offered"), "offered").unwrap();
        fs::write(at("source/secret/key"), SECRET).unwrap();
        fs::write(at("source/large"), vec![b'l'; 3 << 20]).unwrap();
        fs::write(at("outside/key"), SECRET).unwrap();
        symlink(at("outside"), at("source/link")).unwrap();
        for fifo in ["say", "hear"] {
            let held = File::open(dir.path()).unwrap();
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(&held, fifo, kind, rustix::fs::Mode::from(0o600), 0).unwrap();
        }
        let script = at("liar");
        let text = format!("#!/bin/sh\ncat <{:?} &\nexec cat >{:?}\n", at("say"), at("hear"));
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let (heard, connections, over) = <(Arc<Mutex<Heard>>, Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let mut stand = Self { dir, heard, connections, over, daemon: None, stops: true };
        stand.listen(lie);
        stand.daemon = Some(stand.start(&script));
        stand
    }

    fn listen(&self, lie: impl Fn(&mut Talk) + Send + 'static) {
        let (hear, say) = (self.at("hear"), self.at("say"));
        let (heard, connections, over) =
            (Arc::clone(&self.heard), Arc::clone(&self.connections), Arc::clone(&self.over));
        std::thread::spawn(move || {
            loop {
                let (Ok(from), Ok(to)) = (File::open(&hear), File::options().write(true).open(&say)) else {
                    return;
                };
                if over.load(Ordering::Acquire) {
                    return;
                }
                let mut from = BufReader::new(from);
                let mut writer = FrameWriter::new(to);
                if writer.raw(&MAGIC).is_ok() && read_magic(&mut from).is_ok() {
                    let (reader, heard) = (FrameReader::new(from), Arc::clone(&heard));
                    let mut talk = Talk { reader, writer, heard, torn: None };
                    lie(&mut talk);
                }
                connections.fetch_add(1, Ordering::AcqRel);
            }
        });
    }

    fn start(&self, script: &Path) -> Background {
        let config = self.at("speil.lua");
        let source = self.at("source");
        let agent = agent_command();
        let text = format!(
            "sync {{ default.mirror, name = \"liar\", source = {source:?}, target = \"/nowhere\", agent = {script:?}, \
             exclude = \"/secret/\", timeout = \"20s\" }}\n\
             sync {{ default.mirror, name = \"honest\", source = {source:?}, target = {:?}, agent = {agent:?}, \
             exclude = \"/secret/\" }}\n",
            self.at("standby")
        );
        fs::write(&config, text).unwrap();
        let control = format!("--control={}", self.at("control").display());
        Environment::new().spawn(["run", "-v", &control, &config.display().to_string()])
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whether the liar has heard of a name.
    fn has_heard(&self, name: &str) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).names.contains(&path(name))
    }

    /// The liar has had its say: the daemon lives, the honest standby is served, nothing was disclosed,
    /// nothing forged.
    #[track_caller]
    fn holds(mut self) -> Vec<String> {
        let daemon = self.daemon.take().unwrap();
        fs::write(self.at("source/late"), "late").unwrap();
        eventually("the honest standby is served", || self.at("standby/late").exists());
        assert!(daemon.is_running(), "{:?}", daemon.stderr());
        let peak = super::peak_bytes(daemon.pid());
        assert!(peak < 1 << 30, "the daemon held {peak} bytes");
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let disclosed = heard.contents.windows(SECRET.len()).any(|bytes| bytes == SECRET);
        assert!(!disclosed, "the liar got what it was not offered: {:?}", heard.names);
        let hidden = |name: &RelPath| name.as_bytes().starts_with(b"secret");
        assert!(!heard.names.iter().any(hidden), "{:?}", heard.names);
        drop(heard);
        self.over.store(true, Ordering::Release);
        let lines = if self.stops {
            let ended = daemon.terminate();
            assert_eq!(ended.code(), 0, "{ended:?}");
            ended.stderr.lines().map(str::to_owned).collect()
        } else {
            daemon.stderr()
        };
        for line in &lines {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(
                line.starts_with("20") || line.starts_with("  hint") || line.starts_with(' '),
                "{line:?}"
            );
        }
        lines
    }
}

#[test]
fn a_standby_gets_nothing_that_it_was_not_offered() {
    let stand = Stand::new(|talk| {
        let provisional = vec![path("secret/key"), path("link/key"), path("secret")];
        if !talk.greet(ReplyHello { provisional, ..greeting() }) {
            return;
        }
        let asked = ["secret/key", "secret", "link/key", "link", "none/at/all", ".speil/memory", "offered"];
        for name in asked {
            for message in [
                ToSender::Undone { path: path(name), why: Why::Differs },
                ToSender::Undone { path: path(name), why: Why::NoParent },
                ToSender::Undone { path: path(name), why: Why::Torn },
                ToSender::Problem { path: path(name), operation: "write".into(), errno: libc::EIO },
                ToSender::SetAside { path: path(name) },
            ] {
                talk.say(&message);
            }
        }
        while talk.serve() {}
    });
    eventually("the liar gets what is offered", || stand.has_heard("offered"));
    fs::write(stand.at("source/marker"), "marker").unwrap();
    eventually("and what comes later", || stand.has_heard("marker"));
    stand.holds();
}

#[test]
fn a_path_that_leads_out_of_the_source_ends_the_session() {
    let stand = Stand::new(|talk| {
        if !talk.greet(greeting()) {
            return;
        }
        let honest = ToSender::Undone { path: path("ab/outside/key"), why: Why::Differs };
        let mut bytes = postcard::to_stdvec(&honest).unwrap();
        let place = bytes.windows(3).position(|bytes| bytes == b"ab/").unwrap();
        bytes[place..place + 2].copy_from_slice(b"..");
        let frame = [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes].concat();
        let _ = talk.writer.raw(&frame).and_then(|()| talk.writer.flush());
        while talk.serve() {}
    });
    eventually("the liar is cut off and comes again", || stand.connections.load(Ordering::Acquire) >= 2);
    stand.holds();
}

#[test]
fn false_signatures_do_no_more_than_cost_a_session() {
    let turn = AtomicUsize::new(0);
    let stand = Stand::new(move |talk| {
        if !talk.greet(greeting()) {
            return;
        }
        let (size, block_len, data, last) = match turn.fetch_add(1, Ordering::AcqRel) {
            0 => (1 << 20, 0, vec![], true),
            1 => (u64::MAX, 16, vec![], false),
            2 => (1 << 20, 1024, vec![7; 1 << 20], false),
            3 => (u64::MAX, u32::MAX, vec![7; 20], true),
            4 => (64, 16, vec![], true),
            // The right length, and sums that fit nothing.
            _ => (1 << 20, 1 << 20, vec![0; 20], true),
        };
        for stream in 0..200 {
            let data = data.as_slice().into();
            if !talk.say(&ToSender::Signature { stream, size, block_len, data, last }) {
                return;
            }
        }
        while talk.serve() {}
    });
    eventually("each was refused", || stand.connections.load(Ordering::Acquire) >= 2);
    let lines = stand.holds();
    assert!(lines.iter().any(|line| line.contains("signature")), "{lines:#?}");
}

#[test]
fn endless_problems_and_listings_cost_bounded_memory() {
    let stand = Stand::new(|talk| {
        if !talk.greet(greeting()) {
            return;
        }
        let long = "p/".repeat(10_000);
        for number in 0..2_000_u32 {
            let name = path(&format!("{long}{number}"));
            let operation = "\u{1b}]0;forged\u{7}\n".into();
            if !talk.say(&ToSender::Problem { path: name, operation, errno: i32::MIN }) {
                return;
            }
        }
        while talk.serve() {}
    });
    eventually("it was heard out", || stand.has_heard("offered"));
    stand.holds();
}

#[test]
fn a_file_that_never_arrives_whole_is_a_problem_after_so_many_sendings() {
    let stand = Stand::new(|talk| {
        talk.torn = Some(path("offered"));
        if talk.greet(greeting()) {
            while talk.serve() {}
        }
    });
    let said = |line: &String| line.contains("\"offered\"") && line.contains("EBUSY");
    let daemon = stand.daemon.as_ref().unwrap();
    eventually("it is said", || daemon.stderr().iter().any(said));
    let heard = stand.heard.lock().unwrap_or_else(PoisonError::into_inner);
    let sendings = heard.names.iter().filter(|name| **name == path("offered")).count();
    drop(heard);
    assert!((17..50).contains(&sendings), "{sendings}");
    stand.holds();
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_the_session() {
    let stand = Stand::new(|talk| {
        if talk.greet(greeting()) && talk.say(&ToSender::Acked { batch: u64::MAX }) {
            while talk.serve() {}
        }
    });
    eventually("the liar is cut off", || stand.connections.load(Ordering::Acquire) >= 1);
    let lines = stand.holds();
    assert!(lines.iter().any(|line| line.contains("acknowledges what was not sent")), "{lines:#?}");
}

#[test]
fn texts_of_a_standby_forge_nothing() {
    let turn = AtomicUsize::new(0);
    let stand = Stand::new(move |talk| {
        let forged = || "a\u{1b}[2J\n2026-01-01T00:00:00.000Z ERROR forged\u{202e}\r".to_owned();
        match turn.fetch_add(1, Ordering::AcqRel) {
            0 => {
                let _ = talk.reader.read::<ToReceiver<'_>>();
                talk.say(&ToSender::Refused(Refusal::Busy { holder: forged() }));
            }
            1 => {
                let _ = talk.reader.read::<ToReceiver<'_>>();
                talk.say(&ToSender::Refused(Refusal::Refused(forged())));
            }
            2 => {
                talk.greet(ReplyHello { program: forged(), lacks: vec![forged()], ..greeting() });
                talk.say(&ToSender::Fatal(forged().into()));
            }
            _ => {
                talk.greet(ReplyHello { program: forged(), ..greeting() });
                while talk.serve() {}
            }
        }
    });
    eventually("it was heard out", || stand.has_heard("offered"));
    let lines = stand.holds();
    assert!(lines.iter().any(|line| line.contains("forged")), "shown, and escaped: {lines:#?}");
}

#[test]
fn a_standby_that_falls_silent_or_hangs_holds_nobody_up() {
    // It reads nothing and says nothing, not even that it is gone.
    let mut stand = Stand::new(|talk| {
        talk.greet(greeting());
        let silence = talk.writer.get_mut().try_clone().unwrap();
        std::mem::forget(silence);
        std::thread::park();
    });
    // A write that blocks ends with the session's timeout only.
    stand.stops = false;
    stand.holds();
    // Noise in place of the greeting.
    let stand = Stand::new(|talk| {
        let _ = talk.writer.get_mut().write_all(&[0xff; 100_000]);
    });
    stand.holds();
}
