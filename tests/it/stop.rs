//! A stop ends in time, whatever the daemon waits for.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use speil::config::{AgentSource, Allowed, Ssh as Options};
use speil::transport::{Ssh2, Transport};

use crate::support::command::{Background, Environment, eventually};
use crate::support::process;

/// Far beyond the time that a test waits: who heeds this does not stop.
const TIMEOUT: &str = "--timeout=6000";

struct Setup {
    env: Environment,
    dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(setup.path("s")).unwrap();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A remote shell that does `what`, and says that it was called by making `called`.
    fn shell(&self, what: &str) -> String {
        let script = format!("#!/bin/sh\n{what}\n: > {0}\nexec sleep 6000\n", self.text("called"));
        fs::write(self.path("shell"), script).unwrap();
        fs::set_permissions(self.path("shell"), fs::Permissions::from_mode(0o755)).unwrap();
        self.text("shell")
    }
}

#[test]
fn nobody_waits_for_a_host_that_does_not_answer() {
    let setup = Setup::new();
    let (source, control) = (format!("{}/", setup.text("s")), format!("--control={}", setup.text("control")));
    let missing = format!(
        "case \"$2\" in *'cat >'*) ;; *) HOME={} PATH=/usr/bin:/bin exec sh -c \"$2\";; esac",
        setup.text("s")
    );
    for (what, script) in [("the connection", ""), ("an upload of the agent", missing.as_str())] {
        let shell = setup.shell(script);
        let lua = format!(
            "sync {{ default.mirror, source = {:?}, target = \"host:/t\", timeout = \"6000s\", \
             ssh = {{ command = {{ {shell:?} }} }} }}\n",
            setup.path("s")
        );
        fs::write(setup.path("speil.lua"), lua).unwrap();
        for (mode, arguments) in [
            ("mirror", vec!["mirror", &control, TIMEOUT, "-e", &shell, &source, "host:/t"]),
            ("sync", vec!["sync", "-a", TIMEOUT, "-e", &shell, &source, "host:/t"]),
            ("run", vec!["run", &control, &setup.text("speil.lua")]),
        ] {
            let _ = fs::remove_file(setup.path("called"));
            let daemon = setup.env.spawn(arguments);
            eventually("it connects", || setup.path("called").exists());
            let carriers = process::descendants(daemon.pid());
            let ended = daemon.terminate();
            assert!(matches!(ended.code(), 0 | 20), "{mode} waits for {what}: {ended:?}");
            for carrier in carriers {
                eventually(&format!("{mode}: {what} is ended"), || !process::is_running(carrier.pid));
            }
        }
    }
}

#[test]
fn a_connection_in_this_process_is_given_up_at_every_step() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = vec![("ConnectTimeout".to_owned(), "6000".to_owned())];
    let port = Some(listener.local_addr().unwrap().port());
    let options = Options { port, options, ..Options::default() };
    let agent = AgentSource::Command(vec!["true".to_owned()]);
    let transport = Arc::new(Ssh2::new("somebody@127.0.0.1".to_owned(), options, agent, Allowed::default()));
    let connecting = {
        let transport = Arc::clone(&transport);
        std::thread::spawn(move || transport.connect().is_err())
    };
    // The host takes the connection and says nothing.
    let _silent = listener.accept().unwrap();
    transport.cancel();
    eventually("the handshake is given up", || connecting.is_finished());
    assert!(connecting.join().unwrap());
    assert!(transport.connect().is_err(), "nothing is begun any more");
}

#[test]
fn a_target_that_takes_nothing_in_is_left_and_what_it_owes_is_told() {
    let setup = Setup::new();
    let source = format!("{}/", setup.text("s"));
    let control = format!("--control={}", setup.text("control"));
    for owes in [false, true] {
        let daemon = setup.env.spawn(["mirror", &control, TIMEOUT, &source, &setup.text("t")]);
        daemon.wait_for_line(": live");
        let agents = process::descendants(daemon.pid());
        assert_eq!(agents.len(), 1);
        agents.iter().for_each(|agent| process::send(agent.pid, Signal::STOP));
        if owes {
            fs::write(setup.path("s/large"), vec![7; 64 << 20]).unwrap();
            eventually("it is on its way", || {
                let status = setup.env.run(["status", "--json", &control]).succeeded().stdout;
                let status: serde_json::Value = serde_json::from_str(&status).unwrap();
                status["syncs"][0]["targets"][0]["in_flight"].as_u64() > Some(0)
            });
        }
        let ended = daemon.terminate();
        let waited = ended.stdout.contains("stopping: waiting up to 10 s");
        let told = ended.stderr.contains("stopped without an answer to 1 change");
        assert_eq!((ended.code(), waited, told), (0, owes, owes), "{ended:?}");
        eventually("the agent is ended", || agents.iter().all(|agent| !process::is_running(agent.pid)));
    }
}

#[test]
fn an_executable_called_lsyncd_is_its_own_agent() {
    let setup = Setup::new();
    let program = setup.path("lsyncd");
    fs::copy(crate::support::command::SPEIL, &program).unwrap();
    let text = format!(
        "sync {{ default.direct, source = {:?}, target = {:?}, delay = 1 }}\n",
        setup.path("s"),
        setup.path("t")
    );
    fs::create_dir(setup.path("t")).unwrap();
    fs::write(setup.path("lsyncd.conf.lua"), text).unwrap();
    fs::write(setup.path("s/file"), "content").unwrap();
    let mut command = setup.env.command(&program);
    command.args(["-nodaemon", "-engine", "native", &setup.text("lsyncd.conf.lua")]);
    let daemon = Background::spawn(command);
    eventually("it mirrors", || {
        assert!(daemon.is_running(), "{:?}", daemon.stderr());
        setup.path("t/file").exists()
    });
}
