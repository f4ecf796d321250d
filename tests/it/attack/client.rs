//! A sender that says whatever a test wants, to a real agent.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use speil::config::Durability;
use speil::protocol::{
    FrameError, FrameReader, FrameWriter, Hello, MAGIC, Origin, Refusal, ReplyHello, RootPlace, StateMode,
    StreamId, Subject, Terms, ToReceiver, ToSender, VERSION, VERSION_MIN, read_magic,
};
use speil::tree::{Attrs, Kind, Mask, Meta, RelPath, Time};

use crate::support::command::{DEADLINE, SPEIL, eventually};

/// What the agent said, as far as tests count it.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Commits that were acknowledged.
    pub acked: u64,
    /// Problems: path and errno.
    pub problems: Vec<(RelPath, i32)>,
    /// Operations that were not done.
    pub undone: Vec<RelPath>,
    /// Streams that were stopped or have no basis.
    pub stopped: Vec<u32>,
    /// Answers to pings.
    pub pongs: Vec<u64>,
    /// Everything else, shortened.
    pub others: Vec<String>,
    /// The stream has ended.
    pub ended: bool,
    /// Paths of the operations that were sent, in their order.
    sent: Vec<RelPath>,
    /// Files in flight.
    streams: HashMap<StreamId, RelPath>,
}

impl Heard {
    /// Takes in what is sent: answers name its number.
    fn note(&mut self, message: &ToReceiver<'_>) {
        if let ToReceiver::Open { stream, path, .. } | ToReceiver::OpenKept { stream, path, .. } = message {
            self.streams.insert(*stream, path.clone());
        }
        if message.is_operation() {
            let path = match message {
                ToReceiver::Close { stream, .. } => self.streams.get(stream).cloned(),
                ToReceiver::DirTime { path, .. } => Some(path.clone()),
                other => other.paths()[0].cloned(),
            };
            self.sent.push(path.unwrap_or_default());
        }
    }

    fn path(&self, of: Subject) -> RelPath {
        let path = match of {
            Subject::Operation(number) => {
                usize::try_from(number).ok().and_then(|number| self.sent.get(number.checked_sub(1)?))
            }
            Subject::Stream(stream) => self.streams.get(&stream),
        };
        path.expect("an answer to what was sent").clone()
    }
}

/// A session with an agent.
pub struct Client {
    pub agent: Child,
    pub greeting: ReplyHello,
    writer: FrameWriter<ChildStdin>,
    heard: Arc<Mutex<Heard>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts an agent for `root`.
pub fn agent(root: &Path, options: &[&str]) -> Child {
    Command::new(SPEIL)
        .arg("agent")
        .arg("--root")
        .arg(root)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start an agent")
}

pub fn hello() -> Hello {
    Hello {
        before: None,
        noted: false,
        version: VERSION,
        version_min: VERSION_MIN,
        program: "attacker".to_owned(),
        mirror: [7; 16],
        label: "\u{1b}[2Jlabel\n".to_owned(),
        root: b"/somewhere/else".to_vec(),
        source: RootPlace { boot_id: String::new(), lineage: Vec::new() },
        mask: Mask::everything(),
        filters: Vec::new(),
        delete_excluded: false,
        one_file_system: false,
        durability: Durability::None,
        state: StateMode::Keep,
        dry_run: false,
        force_root: false,
        idle_limit_ms: 60_000,
        terms: Terms::default(),
        origin: Origin::default(),
        makes: 1,
        role: None,
        beside: Vec::new(),
        backup: None,
        outside: false,
    }
}

impl Client {
    /// Opens a session on `root`.
    pub fn open(root: &Path, options: &[&str]) -> Self {
        Self::greet(agent(root, options), hello()).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// Says hello to a running agent.
    pub fn greet(mut agent: Child, hello: Hello) -> Result<Self, Refusal> {
        let mut writer = FrameWriter::new(agent.stdin.take().expect("a pipe"));
        let mut from = BufReader::new(agent.stdout.take().expect("a pipe"));
        writer.raw(&MAGIC).expect("send the magic");
        writer.send(&ToReceiver::Hello(Box::new(hello))).expect("send the hello");
        writer.flush().expect("flush");
        read_magic(&mut from).expect("the agent's magic");
        let mut reader = FrameReader::new(from);
        let greeting = match reader.read::<ToSender<'_>>().expect("an answer") {
            ToSender::Hello(greeting) => *greeting,
            ToSender::Refused(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let heard = Arc::new(Mutex::new(Heard::default()));
        let keep = Arc::clone(&heard);
        let thread = std::thread::spawn(move || listen(reader, &keep));
        Ok(Self { agent, greeting, writer, heard, thread: Some(thread) })
    }

    pub fn send(&mut self, message: &ToReceiver<'_>) -> Result<(), FrameError> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).note(message);
        self.writer.send(message)?;
        self.writer.flush()
    }

    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything that was sent has been done.
    #[track_caller]
    pub fn settle(&mut self, number: u64) -> Heard {
        self.send(&ToReceiver::Ping(number)).expect("the agent is there");
        eventually("an answer to a ping", || self.heard().pongs.contains(&number));
        self.heard()
    }

    /// Waits for the agent's end and returns its exit code; -1 for a signal.
    #[track_caller]
    pub fn end(mut self) -> i32 {
        drop(self.writer);
        let mut status = None;
        eventually("the end of the agent", || {
            status = self.agent.try_wait().expect("wait");
            status.is_some()
        });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}

fn listen(mut reader: FrameReader<BufReader<ChildStdout>>, heard: &Mutex<Heard>) {
    loop {
        let message = reader.read::<ToSender<'_>>();
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match message {
            Ok(ToSender::Acked { batch }) => heard.acked = heard.acked.max(batch),
            Ok(ToSender::Failed { of, errno, .. }) => {
                let path = heard.path(of);
                heard.problems.push((path, errno));
            }
            Ok(ToSender::NotDone { of, .. }) => {
                let path = heard.path(of);
                heard.undone.push(path);
            }
            Ok(ToSender::Stopped { stream } | ToSender::NoBasis { stream }) => heard.stopped.push(stream),
            Ok(ToSender::Pong(number)) => heard.pongs.push(number),
            Ok(other) => {
                let mut text = format!("{other:?}");
                text.truncate(300);
                heard.others.push(text);
            }
            Err(_) => {
                heard.ended = true;
                return;
            }
        }
    }
}

/// Runs an agent on a stream of bytes after the magic; returns how it ended. `None`: a signal.
pub fn feed(root: &Path, bytes: &[u8]) -> Option<i32> {
    let mut agent = agent(root, &[]);
    let mut stdin = agent.stdin.take().expect("a pipe");
    let mut stdout = agent.stdout.take().expect("a pipe");
    let swallow = std::thread::spawn(move || drop(stdout.read_to_end(&mut Vec::new())));
    // It may end before it has read all.
    let _ = stdin.write_all(&MAGIC).and_then(|()| stdin.write_all(bytes));
    drop(stdin);
    let mut status = None;
    let ended = crate::support::command::holds_within(DEADLINE, || {
        status = agent.try_wait().expect("wait");
        status.is_some()
    });
    assert!(ended, "the agent does not end");
    let _ = swallow.join();
    status.and_then(|status| status.code())
}

/// Attributes of an entry of a kind.
pub fn attrs(kind: Kind, mode: u32) -> Attrs {
    Attrs {
        meta: Meta {
            kind,
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            size: 0,
            mtime: Time { secs: 1_700_000_000, nanos: 0 },
            rdev: 0,
        },
        symlink: Vec::new(),
        xattrs: Vec::new(),
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes().to_vec()).expect("a path")
}

/// A small file.
pub fn put<'a>(path: RelPath, mode: u32, data: &'a [u8]) -> ToReceiver<'a> {
    let mut attrs = attrs(Kind::File, mode);
    attrs.meta.size = data.len() as u64;
    ToReceiver::Put {
        path,
        attrs,
        hash: *blake3::hash(data).as_bytes(),
        provisional: false,
        data: data.into(),
    }
}
