//! The model receiver beside the real one: the same operations, and answers and trees must agree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use speil::config::Durability;
use speil::protocol::{
    Expect, FrameReader, FrameWriter, Hello, MAGIC, Origin, RootPlace, StateMode, Subject, Terms, ToReceiver,
    ToSender, VERSION, VERSION_MIN, Why as Said, read_magic,
};
use speil::sender::ledger::{Answer, Op, Why};
use speil::tree::{Attrs, Kind, Mask, Meta, RelPath, Time};

use crate::fs::{Fs, Id, PROTECTED, ROOT};
use crate::mutants::seconds;
use crate::rng::Rng;
use crate::target::{Operation, Target};

/// Operations on one tree; several trees are tried.
const OPERATIONS: u64 = 600;
const TREES: u64 = 10;
/// The pass in which contents are asked for.
const PASS: u32 = 1;

/// An agent in a process of its own.
struct Agent {
    process: Child,
    writer: FrameWriter<ChildStdin>,
    reader: FrameReader<BufReader<ChildStdout>>,
    pings: u64,
    /// Messages that have a number.
    operations: u64,
}

impl Agent {
    fn start(root: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speil"));
        command.arg("agent").arg("--root").arg(root);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("an agent");
        let mut writer = FrameWriter::new(process.stdin.take().expect("a pipe"));
        let mut from = BufReader::new(process.stdout.take().expect("a pipe"));
        writer.raw(&MAGIC).expect("send");
        writer.send(&ToReceiver::Hello(Box::new(hello()))).expect("send");
        writer.flush().expect("send");
        read_magic(&mut from).expect("a greeting");
        let mut agent = Self { process, writer, reader: FrameReader::new(from), pings: 0, operations: 0 };
        agent.say(&ToReceiver::Scan {
            pass: PASS,
            top: RelPath::root(),
            options: speil::protocol::ScanOptions { checksum: false, recursive: true },
        });
        agent
    }

    /// Checks that an answer names the operation that was sent last.
    fn is_of_last(&self, of: Subject) {
        if let Subject::Operation(number) = of {
            assert_eq!(number, self.operations, "the answer is of another operation");
        }
    }

    fn say(&mut self, message: &ToReceiver<'_>) {
        self.operations += u64::from(message.is_operation());
        self.writer.send(message).expect("the agent is there");
    }

    /// Waits until everything was done and returns what was said of it; nothing means that it was done.
    fn answers(&mut self) -> Vec<Why> {
        self.pings += 1;
        self.say(&ToReceiver::Ping(self.pings));
        self.writer.flush().expect("the agent is there");
        let mut said = Vec::new();
        loop {
            match self.reader.read::<ToSender<'_>>().expect("the agent is there") {
                ToSender::Pong(number) if number == self.pings => return said,
                ToSender::NotDone { of, why } => {
                    self.is_of_last(of);
                    said.push(match why {
                        Said::NoParent => Why::NoParent,
                        Said::NotEmpty => Why::NotEmpty,
                        Said::Differs | Said::Torn => Why::Mismatch,
                    });
                }
                ToSender::Failed { of, .. } => {
                    self.is_of_last(of);
                    said.push(Why::Failed);
                }
                _ => {}
            }
        }
    }

    /// Asks for a hash, as a comparison does.
    fn hash(&mut self, path: &RelPath) -> Option<[u8; 32]> {
        self.say(&ToReceiver::Hash { pass: PASS, path: path.clone() });
        self.writer.flush().expect("the agent is there");
        loop {
            if let ToSender::Hashed { hash, .. } = self.reader.read().expect("the agent is there") {
                return hash;
            }
        }
    }

    /// Ends it with its input, which is no goodbye.
    fn end(self) {
        let Self { mut process, writer, reader, .. } = self;
        drop((writer, reader));
        process.wait().expect("its end");
    }
}

fn hello() -> Hello {
    Hello {
        before: None,
        version: VERSION,
        version_min: VERSION_MIN,
        program: "simulator".to_owned(),
        mirror: [7; 16],
        label: "simulator".to_owned(),
        root: Vec::new(),
        source: RootPlace { boot_id: String::new(), lineage: Vec::new() },
        mask: Mask { owner: false, group: false, ..Mask::everything() },
        filters: vec![serde_bytes::ByteBuf::from("- x")],
        delete_excluded: false,
        one_file_system: false,
        durability: Durability::None,
        state: StateMode::Keep,
        dry_run: false,
        force_root: false,
        idle_limit_ms: 600_000,
        terms: Terms::default(),
        origin: Origin::default(),
        makes: 1,
        noted: false,
        role: None,
        beside: Vec::new(),
        backup: None,
        outside: false,
    }
}

fn bytes(content: u32, stamp: u8) -> Vec<u8> {
    let mut bytes = content.to_be_bytes().to_vec();
    bytes.resize(4 + usize::from(stamp), b'.');
    bytes
}

fn attrs(kind: Kind, size: u64, stamp: u8) -> Attrs {
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    let mtime = Time { secs: 1_700_000_000 + i64::from(stamp), nanos: 0 };
    Attrs {
        meta: Meta { kind, mode, uid: 0, gid: 0, size, mtime, rdev: 0 },
        symlink: Vec::new(),
        xattrs: Vec::new(),
    }
}

fn version(stamp: u8) -> Expect {
    let Meta { kind, size, mtime, .. } = attrs(Kind::File, 4 + u64::from(stamp), stamp).meta;
    Expect::Version { kind, size, mtime }
}

/// Has the agent do what the model is asked for.
fn perform(agent: &mut Agent, op: Op, operation: &Operation) -> Result<(), Why> {
    let stream = u32::try_from(op.0).unwrap_or(0);
    let of_file = |content, stamp| {
        let data = bytes(content, stamp);
        (attrs(Kind::File, data.len() as u64, stamp), *blake3::hash(&data).as_bytes(), data)
    };
    match operation.clone() {
        Operation::Dir(path) => agent.say(&ToReceiver::Mkdir { path, attrs: attrs(Kind::Dir, 0, 0) }),
        Operation::File { path, content, stamp } => {
            let (attrs, hash, data) = of_file(content, stamp);
            agent.say(&ToReceiver::Put { path, attrs, hash, provisional: false, data: data.into() });
        }
        Operation::Open(path) => agent.say(&ToReceiver::Open { stream, path, size: 4, basis: false }),
        Operation::Close { content, stamp } => {
            let (attrs, hash, data) = of_file(content, stamp);
            agent.say(&ToReceiver::Data { stream, data: data.into() });
            agent.say(&ToReceiver::Close { stream, attrs, hash, provisional: false });
        }
        Operation::Abandon => agent.say(&ToReceiver::Abandon { stream }),
        Operation::Attributes { path, stamp } => {
            let attrs = attrs(Kind::File, 4 + u64::from(stamp), stamp);
            agent.say(&ToReceiver::Attrs { path, attrs, expect: version(stamp) });
        }
        Operation::Delete { path, dir } => {
            let expect = dir.map_or(Expect::Any, Expect::Dir);
            agent.say(&ToReceiver::Delete { path, expect, keep_strangers: false });
        }
        Operation::Rename { from, to } => {
            agent.say(&ToReceiver::Rename { from, to, expect: Expect::Any });
        }
        Operation::Link { path, existing, stamp } => {
            agent.say(&ToReceiver::Link { path, existing, expect: version(stamp) });
        }
        Operation::Prove { path, content, stamp } => {
            let wanted = *blake3::hash(&bytes(content, stamp)).as_bytes();
            return if agent.hash(&path) == Some(wanted) { Ok(()) } else { Err(Why::Mismatch) };
        }
    }
    let why = agent.answers().first().copied();
    match (operation, why) {
        // Nothing else was expected of what is renamed but that it is there.
        (Operation::Rename { .. }, Some(Why::Mismatch)) => Err(Why::Missing),
        (_, why) => why.map_or(Ok(()), Err),
    }
}

/// What a tree is like: each name with its content, and a number that names of one file share.
type Listed = BTreeMap<Vec<u8>, (Option<Vec<u8>>, u64)>;

fn list_model(fs: &Fs, dir: Id, path: &RelPath, found: &mut Listed) {
    for &(name, id) in fs.entries(dir) {
        let (path, inode) = (path.join(&[name]), fs.inode(id));
        let content = (!fs.is_dir(id)).then(|| match name {
            PROTECTED => Vec::new(),
            _ => bytes(inode.content, inode.stamp),
        });
        found.insert(path.as_bytes().to_vec(), (content, id as u64));
        list_model(fs, id, &path, found);
    }
}

fn list_disk(root: &Path, path: &RelPath, found: &mut Listed) {
    for entry in fs::read_dir(on_disk(root, path)).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_encoded_bytes();
        // Its own, and large files that are begun.
        if name.starts_with(b".speil") {
            continue;
        }
        let (path, meta) = (path.join(&name), entry.metadata().expect("an entry"));
        let content = meta.is_file().then(|| fs::read(entry.path()).expect("a file"));
        found.insert(path.as_bytes().to_vec(), (content, meta.ino()));
        if meta.is_dir() {
            list_disk(root, &path, found);
        }
    }
}

/// By name: what it holds, and what else it is the same as.
type Same<'a> = BTreeMap<&'a [u8], (Option<&'a [u8]>, &'a [u8])>;

/// Has names of one file share the least of them, whatever its number is.
fn same(listed: &Listed) -> Same<'_> {
    let mut first = BTreeMap::new();
    for (path, (_, number)) in listed {
        first.entry(number).or_insert(path.as_slice());
    }
    listed
        .iter()
        .map(|(path, (content, number))| (path.as_slice(), (content.as_deref(), first[number])))
        .collect()
}

/// Draws operations with few names, so that they meet.
struct Draw {
    rng: Rng,
    paths: Vec<RelPath>,
    open: Vec<Op>,
    next: u64,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut paths = Vec::new();
        for first in ["a", "b", "c"] {
            paths.push(first.to_owned());
            for second in ["a", "b"] {
                paths.extend([format!("{first}/{second}"), format!("{first}/{second}/a")]);
            }
        }
        let paths = paths.iter().filter_map(|path| RelPath::new(path.as_bytes()).ok()).collect();
        Self { rng: Rng::new(seed), paths, open: Vec::new(), next: 0 }
    }

    fn path(&mut self) -> RelPath {
        self.paths[self.rng.index(self.paths.len())].clone()
    }

    fn next(&mut self) -> (Op, Operation) {
        self.next += 1;
        let op = Op(self.next);
        let (path, other) = (self.path(), self.path());
        let content = u32::try_from(self.rng.below(1 << 20)).unwrap_or(0);
        let stamp = u8::try_from(self.rng.below(3)).unwrap_or(0);
        let operation = match self.rng.below(24) {
            0..=3 | 20..=23 => Operation::Dir(path),
            4..=6 => Operation::File { path, content, stamp },
            7 if self.open.len() < 4 => {
                self.open.push(op);
                Operation::Open(path)
            }
            7..=9 if !self.open.is_empty() => {
                let at = self.rng.index(self.open.len());
                let op = self.open.swap_remove(at);
                let gives_up = self.rng.one_in(4);
                return (op, if gives_up { Operation::Abandon } else { Operation::Close { content, stamp } });
            }
            10 => Operation::Attributes { path, stamp },
            11 | 12 => Operation::Delete { path, dir: [None, Some(true), Some(false)][self.rng.index(3)] },
            13 => Operation::Prove { path, content, stamp },
            14 | 15 => Operation::Link { path, existing: other, stamp },
            _ => Operation::Rename { from: path, to: other },
        };
        (op, operation)
    }
}

/// Runs operations on one tree of each.
fn run(seed: u64) -> Result<u64, String> {
    let dir = tempfile::Builder::new().prefix("sim").tempdir_in(ground()).expect("a directory");
    let mut agent = Agent::start(dir.path());
    let done = compare(seed, dir.path(), &mut agent);
    agent.end();
    done.map(|()| OPERATIONS)
}

fn compare(seed: u64, root: &Path, agent: &mut Agent) -> Result<(), String> {
    let (mut target, mut draw) = (Target::default(), Draw::new(seed));
    let mut done = Vec::new();
    for _ in 0..OPERATIONS {
        if draw.rng.one_in(40) {
            let path = draw.path();
            if target.protect(&path) {
                fs::write(on_disk(root, &path).join("x"), "").expect("write");
            }
        }
        let (op, operation) = draw.next();
        let ours = target.apply(op, operation.clone()).unwrap_or(Answer::Done);
        let theirs = perform(agent, op, &operation).map_or_else(Answer::Refused, |()| Answer::Done);
        done.push(format!("{operation:?}: {ours:?}"));
        let (mut model, mut disk) = (Listed::new(), Listed::new());
        list_model(&target.fs, ROOT, &RelPath::root(), &mut model);
        list_disk(root, &RelPath::root(), &mut disk);
        if ours != theirs || same(&model) != same(&disk) {
            let last = done.len().saturating_sub(12);
            return Err(format!(
                "seed {seed}: the agent says {theirs:?} to the last of\n{}\nand has {:?},\nthe model {:?}",
                done[last..].join("\n"),
                same(&disk),
                same(&model)
            ));
        }
    }
    Ok(())
}

fn on_disk(root: &Path, path: &RelPath) -> std::path::PathBuf {
    root.join(OsStr::from_bytes(path.as_bytes()))
}

/// Where files cost nothing.
fn ground() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

#[test]
fn the_model_receiver_answers_and_does_as_the_agent() {
    let (began, limit) = (Instant::now(), seconds("SIM_SECONDS"));
    let (mut seed, mut operations) = (0, 0);
    while seed < TREES || limit.is_some_and(|limit| began.elapsed() < limit) {
        seed += 1;
        operations += run(seed).unwrap_or_else(|why| panic!("{why}"));
    }
    println!("{operations} operations");
}
