//! Telling people what got worse, or well again: by a program, a webhook, a mail.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::service::block;
use crate::support::command::{Background, Environment, eventually};

struct Setup {
    env: Environment,
    dir: TempDir,
}

impl Setup {
    /// A sync whose target is down: a file is in the way of its parent directory. `notify` is what is configured.
    fn new(notify: &str) -> Self {
        let setup = Self { env: Environment::new(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir(setup.path("source")).unwrap();
        fs::create_dir(setup.path("bin")).unwrap();
        fs::write(setup.path("there"), "in the way").unwrap();
        setup.configure(notify);
        setup
    }

    fn configure(&self, notify: &str) {
        let sync = block("www", &self.path("source"), &self.path("there/standby"));
        let settings = format!("settings {{ statusInterval = 0.1, notify = {notify} }}\n");
        fs::write(self.path("speil.lua"), settings + &sync).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> String {
        format!("--control={}", self.path("control").display())
    }

    /// Writes a program that comes first in the daemon's PATH.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start(&self) -> Background {
        let config = self.path("speil.lua").display().to_string();
        let mut command = self.env.speil(["run", &self.control(), &config]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        Background::spawn(command)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

#[test]
fn a_target_that_goes_down_and_comes_back_is_told_once_each_by_mail_and_by_a_program() {
    let setup = Setup::new("{ mail = 'ops@example.org', command = { 'tell', 'ops' }, after = 0.2 }");
    let out = setup.path("out").display().to_string();
    setup.program(
        "tell",
        &format!(
            "(echo \"$1 $SPEIL_SUBJECT\"; cat) >>{out}.told; printf '%s\\n' \"$SPEIL_JSON\" >>{out}.json"
        ),
    );
    setup.program("sendmail", &format!("(echo \"$@\"; cat) >>{out}.mail"));
    let daemon = setup.start();
    eventually("both are told", || {
        setup.read("out.told").contains(" is down: ") && setup.read("out.mail").contains("shows everything")
    });
    fs::remove_file(setup.path("there")).unwrap();
    fs::create_dir(setup.path("there")).unwrap();
    let _ = setup.env.run(["retry", &setup.control()]).succeeded();
    eventually("both are told that it is over", || {
        setup.read("out.told").contains("has a connection again")
            && setup.read("out.mail").contains("has a connection again")
    });
    let told = setup.read("out.told");
    assert!(told.starts_with("ops speil on "), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("ops ")).count(), 2, "{told}");
    let mail = setup.read("out.mail");
    assert!(mail.starts_with("-oi -t\nTo: ops@example.org\nSubject: =?UTF-8?B?"), "{mail}");
    let json = setup.read("out.json");
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["changes"][0]["target"], &first["changes"][0]["cause"]),
        (&"standby".into(), &"down".into())
    );
    daemon.terminate();
}

#[test]
fn held_deletes_are_told_with_what_to_type_and_a_way_that_fails_is_a_line_in_the_log() {
    let setup = Setup::new("{ webhook = 'http://127.0.0.1:1/secret', command = 'tell', after = 0.2 }");
    let out = setup.path("out").display().to_string();
    setup.program("tell", &format!("cat >>{out}"));
    fs::remove_file(setup.path("there")).unwrap();
    fs::create_dir(setup.path("there")).unwrap();
    for number in 0..150 {
        fs::write(setup.path("source").join(number.to_string()), "x").unwrap();
    }
    let daemon = setup.start();
    daemon.wait_for_error_line(": live");
    for number in 0..150 {
        fs::remove_file(setup.path("source").join(number.to_string())).unwrap();
    }
    eventually("it is told", || setup.read("out").contains("speil approve www standby carries them out"));
    let line = daemon.wait_for_error_line("notify: webhook 127.0.0.1:1: curl ended with 7: ");
    assert!(line.ends_with("; tried again in 30 s"), "{line}");
    let _ = setup.env.run(["approve", &setup.control()]).succeeded();
    eventually("that is told, too", || setup.read("out").contains("holds no deletes back any more"));
    let stopped = daemon.terminate();
    assert!(!stopped.stderr.contains("secret"), "{}", stopped.stderr);
}

#[test]
fn a_webhook_is_posted_a_json_object_and_a_test_says_of_each_way_whether_it_works() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("'http://{}/hooks/secret'", listener.local_addr().unwrap());
    let posted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        (head, String::from_utf8(body).unwrap())
    });
    let setup = Setup::new("false");
    let daemon = setup.start();
    daemon.wait_for_error_line("www");
    eventually("it says that there is nothing to test", || {
        setup.env.run(["notify", &setup.control()]).stderr.contains("has no notify")
    });
    setup.configure(&format!("{{ webhook = {hook}, command = 'false', after = '1h' }}"));
    let _ = setup.env.run(["reload", &setup.control()]).succeeded();
    let tried = setup.env.run(["notify", &setup.control()]);
    assert_eq!(tried.code(), 1, "{tried:?}");
    assert!(tried.stderr.contains("command false: false ended with 1"), "{tried:?}");
    assert!(tried.stdout.starts_with("webhook 127.0.0.1:") && tried.stdout.ends_with(": sent"), "{tried:?}");
    let (head, body) = posted.join().unwrap();
    assert!(head.starts_with("POST /hooks/secret ") && head.contains("application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(body["text"].as_str().unwrap().contains("this is a test\n\nspeil notify was typed."), "{body}");
    daemon.terminate();
}
