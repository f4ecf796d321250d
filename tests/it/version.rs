//! Daemons and agents of different versions: they speak the older protocol, or say what to upgrade.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use speil::event::RescanReason;
use speil::protocol::{
    FrameReader, FrameWriter, MAGIC, Refusal, ToReceiver, ToSender, VERSION, VERSION_MIN, VERSION_ORIGIN,
    VERSION_STATE, read_magic,
};
use speil::sender::Identity;
use speil::transport::{Control, Ended, Link, Transport, TransportError};

use crate::support::command::{SPEIL, eventually};
use crate::support::session::Scene;

/// What stands between the sender and the agent.
#[derive(Clone)]
enum Between {
    /// Makes the sender say that this is the newest version that it speaks.
    SenderSays(u32),
    /// Answers in the agent's place.
    AgentSays(Refusal),
    /// Makes the agent's greeting longer, as a newer one's may be, and name this version.
    Greeting(u32),
}

/// A real agent, behind something that changes what is said.
struct Shim {
    between: Between,
    /// How often the sender stated how it does.
    stated: Arc<AtomicUsize>,
}

struct Ends(UnixStream);

impl Control for Ends {
    fn kill(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    fn ended(&self) -> Ended {
        Ended::default()
    }
}

/// The way to the agent; closed in this direction when it goes, as a pipe is.
struct Way(UnixStream);

impl Write for Way {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

impl Transport for Shim {
    fn connect(&self) -> Result<Link, TransportError> {
        let (near, far) = UnixStream::pair().unwrap();
        let (up, agent) = UnixStream::pair().unwrap();
        let (to_agent, from_agent) = (up.try_clone().unwrap(), up);
        // A process of its own: an agent that a newer session evicts ends its process.
        let output = OwnedFd::from(agent.try_clone().unwrap());
        let mut command = Command::new(SPEIL);
        command.arg("agent").stdin(OwnedFd::from(agent)).stdout(output);
        let mut process = command.spawn().unwrap();
        std::thread::spawn(move || process.wait());
        let (from_sender, to_sender) = (far.try_clone().unwrap(), far);
        let (between, stated) = (self.between.clone(), Arc::clone(&self.stated));
        let answers = between.clone();
        std::thread::spawn(move || forward(from_sender, to_agent, &between, &stated));
        std::thread::spawn(move || answer(from_agent, to_sender, &answers));
        let reader = Box::new(near.try_clone().unwrap());
        let control = Box::new(Ends(near.try_clone().unwrap()));
        Ok(Link { reader, writer: Box::new(Way(near)), control })
    }
}

fn forward(mut from: UnixStream, mut to: UnixStream, between: &Between, stated: &AtomicUsize) {
    let _ = read_magic(&mut from);
    let _ = to.write_all(&MAGIC);
    let (mut reader, mut writer) = (FrameReader::new(from), FrameWriter::new(to));
    while let Ok(mut message) = reader.read::<ToReceiver<'_>>() {
        if let (ToReceiver::Hello(hello), Between::SenderSays(version)) = (&mut message, between) {
            (hello.version, hello.version_min) = (*version, (*version).min(hello.version_min));
            if *version < VERSION_ORIGIN {
                hello.origin = Default::default();
            }
        }
        stated.fetch_add(usize::from(matches!(message, ToReceiver::State(_))), Ordering::Relaxed);
        if writer.send(&message).and_then(|()| writer.flush()).is_err() {
            break;
        }
    }
    let _ = writer.get_mut().shutdown(std::net::Shutdown::Write);
}

fn answer(mut from: UnixStream, mut to: UnixStream, between: &Between) {
    let _ = read_magic(&mut from);
    let _ = to.write_all(&MAGIC);
    if let Between::AgentSays(refusal) = between {
        let mut writer = FrameWriter::new(to);
        let _ = writer.send(&ToSender::Refused(refusal.clone())).and_then(|()| writer.flush());
        return;
    }
    if let Between::Greeting(version) = between {
        let mut reader = FrameReader::new(&mut from);
        let Ok(ToSender::Hello(mut hello)) = reader.read::<ToSender<'_>>() else { return };
        hello.version = *version;
        let mut bytes = postcard::to_stdvec(&ToSender::Hello(hello)).unwrap();
        bytes.extend_from_slice(b"a field of tomorrow");
        let _ = to.write_all(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        let _ = to.write_all(&bytes);
    }
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..len]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// A scene with a file, and a way through `between`.
fn scene(dir: &Path, between: Between) -> (Scene, Shim) {
    let scene = Scene::new(dir);
    std::fs::write(scene.source("file"), b"content").unwrap();
    (scene, Shim { between, stated: Arc::default() })
}

/// Mirrors through `between` until it is live; returns how often the sender stated how it does.
fn statements_until_live(between: Between, at_least: usize) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (scene, shim) = scene(dir.path(), between);
    let session = scene.connect(&shim).unwrap_or_else(|error| panic!("refused: {error}"));
    let running = std::thread::spawn(move || session.run(RescanReason::Start));
    scene.until_live();
    let stated = || shim.stated.load(Ordering::Relaxed);
    eventually("enough was stated", || stated() >= at_least);
    assert_eq!(std::fs::read(scene.target("file")).unwrap(), b"content");
    scene.end(running);
    stated()
}

#[test]
fn an_older_daemon_and_an_agent_of_today_speak_the_older_protocol_and_mirror() {
    for version in VERSION_MIN..VERSION_STATE {
        assert_eq!(
            statements_until_live(Between::SenderSays(version), 0),
            0,
            "version {version} knows no statements"
        );
    }
    for version in VERSION_STATE..=VERSION {
        assert!(statements_until_live(Between::SenderSays(version), 1) > 0, "version {version}");
    }
}

/// An older agent takes one identity alone: the one that its tree carries is tried as well.
#[test]
fn an_agent_that_knows_no_former_identities_is_shown_them_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let live = |identity: Identity, version: u32| {
        let (mut scene, shim) = scene(dir.path(), Between::SenderSays(version));
        scene.options.mirror = identity;
        let session = scene.connect(&shim).map_err(|error| error.to_string())?;
        let running = std::thread::spawn(move || session.run(RescanReason::Start));
        scene.until_live();
        scene.end(running);
        Ok::<(), String>(())
    };
    let older = VERSION_ORIGIN - 1;
    live([9; 16].into(), older).unwrap();
    assert!(live(Identity { id: [7; 16], former: vec![[8; 16]] }, older).is_err());
    live(Identity { id: [7; 16], former: vec![[8; 16], [9; 16]] }, older).unwrap();
}

#[test]
fn a_newer_daemon_is_answered_with_what_both_speak() {
    assert!(statements_until_live(Between::SenderSays(VERSION + 5), 1) > 0);
}

#[test]
fn a_greeting_with_fields_of_a_later_version_is_understood() {
    assert!(statements_until_live(Between::Greeting(VERSION), 1) > 0);
}

#[test]
fn without_a_common_version_it_is_said_which_side_to_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let refusal =
        |newest, program: &str| Between::AgentSays(Refusal::Version { newest, program: program.into() });
    for (between, words) in [
        (refusal(0, "0.0.1"), ["\"0.0.1\"", "upgrade speil on the target"]),
        (refusal(VERSION + 7, "9.0\u{1b}[2J"), ["\"9.0\\u{1b}[2J\"", "upgrade speil here"]),
        (Between::Greeting(VERSION + 1), ["speaks protocol", "upgrade speil here"]),
    ] {
        let (scene, shim) = scene(dir.path(), between);
        let Err(error) = scene.connect(&shim) else { panic!("a session without a common version") };
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}
