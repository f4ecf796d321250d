//! SSH inside the process: the same as the `ssh` command as far as a link is concerned.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use speil::config::{AgentSource, Allowed, Ssh as Options};
use speil::transport::{Ended, Link, Ssh, Ssh2, Transport, TransportError};

use crate::support::command::{Background, Environment, SPEIL, eventually};
use crate::support::proxy::{Link as Network, Proxy};
use crate::support::sshd::Sshd;

const MIB: usize = 1 << 20;

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|&word| word.to_owned()).collect()
}

fn options(sshd: &Sshd) -> Options {
    let file = |name: &str| sshd.dir().join(name).to_string_lossy().into_owned();
    let set = [
        ("UserKnownHostsFile", file("known_hosts")),
        ("GlobalKnownHostsFile", "none".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("IdentityAgent", "none".to_owned()),
        ("IdentitiesOnly", "yes".to_owned()),
    ];
    Options {
        port: Some(sshd.address().port()),
        identity_file: Some(sshd.dir().join("client_key")),
        options: set.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        ..Options::default()
    }
}

/// A transport that runs `script` in place of the agent.
fn running(sshd: &Sshd, script: &str) -> Ssh2 {
    let agent = AgentSource::Command(words(&["sh", "-c", script]));
    Ssh2::new(sshd.login(), options(sshd), agent, Allowed::default())
}

fn with_option(sshd: &Sshd, key: &str, value: &str) -> Ssh2 {
    let mut transport = running(sshd, "true");
    transport.options.options.retain(|(name, _)| name != key);
    transport.options.options.push((key.to_owned(), value.to_owned()));
    transport
}

#[track_caller]
fn refusal(transport: &Ssh2) -> String {
    match transport.connect() {
        Ok(_) => panic!("connected"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn succeeds(transport: &Ssh2) {
    let Link { reader: _reader, writer, control } = transport.connect().expect("a link");
    drop(writer);
    assert_eq!(control.ended(), Ended { status: Some(0), stderr: Vec::new() });
}

/// Sends `input` and its end; returns what came back and how the link ended.
fn exchange(transport: &dyn Transport, input: &[u8]) -> (Vec<u8>, Ended) {
    let Link { mut reader, mut writer, control } = transport.connect().expect("a link");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(input).and_then(|()| writer.flush());
        });
        let mut output = Vec::new();
        reader.read_to_end(&mut output).expect("the output to its end");
        output
    });
    (output, control.ended())
}

fn ssh_keygen(arguments: &[&str]) {
    let status =
        Command::new("ssh-keygen").args(arguments).stdin(Stdio::null()).status().expect("ssh-keygen");
    assert!(status.success(), "ssh-keygen {arguments:?}");
}

/// Makes a key pair and returns the path of the private key.
fn key(dir: &Path, name: &str, kind: &str, passphrase: &str) -> String {
    let file = dir.join(name).to_string_lossy().into_owned();
    ssh_keygen(&["-q", "-t", kind, "-N", passphrase, "-C", name, "-f", &file]);
    file
}

fn append(file: &Path, text: &str) {
    let before = fs::read_to_string(file).expect("a file");
    fs::write(file, before + text).expect("a file");
}

/// What both transports must do alike.
fn check_behaviour(sshd: &Sshd, make: &dyn Fn(&str) -> Box<dyn Transport>) {
    let big: Vec<u8> = (0..3 * MIB).map(|at| (at % 251) as u8).collect();
    let (output, ended) = exchange(&*make("cat"), &big);
    assert!(output == big, "{} of {} bytes came back", output.len(), big.len());
    assert_eq!(ended, Ended { status: Some(0), stderr: Vec::new() });

    let (output, ended) = exchange(&*make("echo out; printf \"one\\ntw\\033o\\n\" >&2; exit 3"), b"");
    assert_eq!(output, b"out\n");
    assert_eq!(ended, Ended { status: Some(3), stderr: vec!["one".into(), "tw\\u{1b}o".into()] });

    // The end of input reaches the command although it has said nothing yet.
    let (output, ended) = exchange(&*make("wc -c"), b"12345");
    assert_eq!((output.trim_ascii(), ended.status), (&b"5"[..], Some(0)));

    // More on standard error than any window holds, before a byte of output.
    let (output, ended) = exchange(&*make("seq 1000000 >&2; echo done"), b"");
    assert_eq!((output.as_slice(), ended.status), (&b"done\n"[..], Some(0)));
    assert_eq!((ended.stderr.len(), ended.stderr.last().map(String::as_str)), (20, Some("1000000")));

    // A command that ends while it is written to.
    let (output, ended) = exchange(&*make("exit 4"), &big);
    assert_eq!((output.len(), ended.status), (0, Some(4)));

    // A reader that has gone does not keep the command.
    let Link { reader, writer, control } = make("seq 1000000; exit 5").connect().expect("a link");
    drop((reader, writer));
    let status = control.ended().status;
    assert!(status.is_some(), "{status:?}");

    // A connection that is cut ends both ways.
    sshd.wait_until_idle();
    let Link { mut reader, writer, control } = make("echo up; exec sleep 600").connect().expect("a link");
    let mut line = [0; 3];
    reader.read_exact(&mut line).expect("a line");
    assert_eq!(sshd.kill_connections(), 1);
    assert_eq!(reader.read_to_end(&mut Vec::new()).expect("the end"), 0);
    let ended = control.ended();
    assert!(ended.status != Some(0) && !ended.stderr.is_empty(), "{ended:?}");
    drop(writer);

    kill_ends_both_ways(&*make("echo up; exec sleep 600"));
    sshd.wait_until_idle();
}

fn kill_ends_both_ways(transport: &dyn Transport) {
    let mut link = transport.connect().expect("a link");
    link.reader.read_exact(&mut [0; 3]).expect("a line");
    assert_killed_both_ways(link);
}

fn assert_killed_both_ways(link: Link) {
    let Link { mut reader, mut writer, control } = link;
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || reader.read_to_end(&mut Vec::new()));
        let writing = scope.spawn(move || {
            loop {
                // Nobody reads there: it stops once every buffer on the way is full.
                if let Err(error) = writer.write_all(&[0; 1 << 16]) {
                    return error.kind();
                }
            }
        });
        assert!(!reading.is_finished() && !writing.is_finished());
        control.kill();
        assert_eq!(reading.join().expect("a reader").expect("the end"), 0);
        assert_eq!(writing.join().expect("a writer"), std::io::ErrorKind::BrokenPipe);
    });
    assert_eq!(control.ended().status, None);
}

#[test]
fn both_transports_behave_alike() {
    let sshd = Sshd::start();
    check_behaviour(&sshd, &|script| Box::new(running(&sshd, script)));
    let command: Vec<String> = sshd.ssh_command().split_ascii_whitespace().map(str::to_owned).collect();
    check_behaviour(&sshd, &|script| {
        let options = Options { command: Some(command.clone()), ..Options::default() };
        let agent = AgentSource::Command(words(&["sh", "-c", script]));
        Box::new(Ssh::new(sshd.login(), options, agent, Allowed::default(), true))
    });
}

#[test]
fn full_duplex_under_load_and_new_keys_does_not_deadlock() {
    let sshd = Sshd::start_with("RekeyLimit 16M");
    let len = 64 * MIB;
    let script = format!("head -c {len} /dev/zero & wc -c >&2; wait");
    let (output, ended) = exchange(&running(&sshd, &script), &vec![7; len]);
    assert_eq!(output.len(), len);
    assert_eq!(ended, Ended { status: Some(0), stderr: vec![len.to_string()] });
}

#[test]
fn a_link_whose_network_is_gone_can_be_killed() {
    let sshd = Sshd::start();
    let proxy = Proxy::start(sshd.address(), Network::default());
    let mut transport = running(&sshd, "echo up; cat >/dev/null");
    transport.options.port = Some(proxy.address().port());
    let mut link = transport.connect().expect("a link");
    link.reader.read_exact(&mut [0; 3]).expect("a line");
    proxy.freeze();
    assert_killed_both_ways(link);
}

#[test]
fn unknown_host_is_refused_and_accept_new_notes_it() {
    let sshd = Sshd::start();
    let empty = sshd.dir().join("empty").to_string_lossy().into_owned();
    let text = refusal(&with_option(&sshd, "UserKnownHostsFile", &empty));
    assert!(text.contains("host key verification failed") && text.contains("not in known_hosts"), "{text}");
    assert!(text.contains("ssh-ed25519 SHA256:"), "{text}");
    assert!(!Path::new(&empty).exists(), "a refused key is not noted");

    let mut new = with_option(&sshd, "UserKnownHostsFile", &empty);
    new.options.options.retain(|(key, _)| key != "StrictHostKeyChecking");
    new.options.options.push(("StrictHostKeyChecking".into(), "accept-new".into()));
    succeeds(&new);
    let noted = fs::read_to_string(&empty).expect("the noted key");
    assert!(noted.starts_with(&format!("[127.0.0.1]:{} ssh-ed25519 ", sshd.address().port())), "{noted}");
    // From now on it holds, hashed as well.
    ssh_keygen(&["-q", "-H", "-f", &empty]);
    assert!(fs::read_to_string(&empty).expect("the hashed file").starts_with("|1|"));
    succeeds(&with_option(&sshd, "UserKnownHostsFile", &empty));
}

#[test]
fn another_host_key_is_refused_with_its_line() {
    let sshd = Sshd::start();
    key(sshd.dir(), "other", "ed25519", "");
    let public = fs::read_to_string(sshd.dir().join("other.pub")).expect("a key");
    let known = sshd.dir().join("wrong");
    fs::write(&known, format!("# old\n[127.0.0.1]:{} {public}", sshd.address().port())).expect("a file");
    let known = known.to_string_lossy().into_owned();
    for strict in ["yes", "accept-new"] {
        let mut transport = with_option(&sshd, "UserKnownHostsFile", &known);
        transport.options.options.retain(|(key, _)| key != "StrictHostKeyChecking");
        transport.options.options.push(("StrictHostKeyChecking".into(), strict.into()));
        let error = transport.connect().err().expect("a refusal");
        assert!(matches!(error, TransportError::HostKey(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("{known} line 2")) && text.contains("remove that line"), "{text}");
    }
    let before = fs::read_to_string(&known).expect("a file");
    let mut transport = with_option(&sshd, "UserKnownHostsFile", &known);
    transport.options.options.retain(|(key, _)| key != "StrictHostKeyChecking");
    transport.options.options.push(("StrictHostKeyChecking".into(), "no".into()));
    succeeds(&transport);
    assert_eq!(fs::read_to_string(&known).expect("a file"), before);
}

#[test]
fn a_login_without_a_usable_key_says_why() {
    let sshd = Sshd::start();
    let mut transport = running(&sshd, "true");
    transport.options.identity_file = Some(sshd.dir().join("none"));
    let text = refusal(&transport);
    assert!(text.contains("Permission denied (publickey): there is no key to try"), "{text}");

    transport.options.identity_file = Some(key(sshd.dir(), "stranger", "ed25519", "").into());
    let text = refusal(&transport);
    assert!(text.contains("Permission denied") && text.contains("stranger ("), "{text}");

    transport.options.identity_file = Some(key(sshd.dir(), "guarded", "ed25519", "secret").into());
    let text = refusal(&transport);
    assert!(text.contains("guarded has a passphrase") && text.contains("ssh-agent"), "{text}");

    let open = key(sshd.dir(), "open", "ed25519", "");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("a mode");
    transport.options.identity_file = Some(open.into());
    assert!(refusal(&transport).contains("is open to others"));
}

#[test]
fn keys_of_every_common_kind_log_in() {
    let sshd = Sshd::start();
    for kind in ["rsa", "ecdsa", "ed25519"] {
        let file = key(sshd.dir(), kind, kind, "");
        let public = fs::read_to_string(format!("{file}.pub")).expect("a key");
        append(&sshd.dir().join("authorized_keys"), &public);
        let mut transport = running(&sshd, "true");
        transport.options.identity_file = Some(file.into());
        succeeds(&transport);
    }
}

#[test]
fn keys_in_an_agent_log_in() {
    let sshd = Sshd::start();
    let file = key(sshd.dir(), "held", "ed25519", "");
    append(&sshd.dir().join("authorized_keys"), &fs::read_to_string(format!("{file}.pub")).expect("a key"));
    let socket = sshd.dir().join("agent").to_string_lossy().into_owned();
    let mut command = Environment::new().command("ssh-agent");
    command.args(["-D", "-a", &socket]);
    let _agent = Background::spawn(command);
    eventually("the agent listens", || Path::new(&socket).exists());
    let mut transport = with_option(&sshd, "IdentityAgent", &socket);
    transport.options.identity_file = Some(sshd.dir().join("held.pub"));
    let text = refusal(&transport);
    assert!(text.contains("the agent has no key for it"), "{text}");

    let mut add = Environment::new().command("ssh-add");
    add.args(["-q", &file]).env("SSH_AUTH_SOCK", &socket);
    let _ = Background::spawn(add).wait().succeeded();
    fs::remove_file(&file).expect("only the agent has it");
    succeeds(&transport);
    // IdentitiesOnly: a key that no file names is not offered.
    transport.options.identity_file = Some(sshd.dir().join("none"));
    assert!(refusal(&transport).contains("the agent has no key for it"));
    let mut any = with_option(&sshd, "IdentityAgent", &socket);
    any.options.identity_file = None;
    any.options.options.retain(|(key, _)| key != "IdentitiesOnly");
    succeeds(&any);
}

#[test]
fn a_users_certificate_beside_the_key_logs_in() {
    let sshd = Sshd::start();
    let authority = key(sshd.dir(), "authority", "ed25519", "");
    let public = fs::read_to_string(format!("{authority}.pub")).expect("a key");
    append(&sshd.dir().join("authorized_keys"), &format!("cert-authority {public}"));
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let file = key(sshd.dir(), &format!("user-{kind}"), kind, "");
        let mut transport = running(&sshd, "true");
        transport.options.identity_file = Some(file.clone().into());
        assert!(refusal(&transport).contains("Permission denied"));
        let login = sshd.login();
        let name = login.split('@').next().expect("a user");
        ssh_keygen(&["-q", "-s", &authority, "-I", "test", "-n", name, &format!("{file}.pub")]);
        succeeds(&transport);
    }
}

#[test]
fn what_libssh2_cannot_do_is_refused_by_name() {
    let sshd = Sshd::start();
    for (key, value) in [("ProxyJump", "bastion"), ("RevokedHostKeys", "/etc/ssh/revoked")] {
        let text = refusal(&with_option(&sshd, key, value));
        assert!(text.contains(key) && text.contains("use transport = \"ssh\""), "{text}");
    }
    let text = refusal(&with_option(&sshd, "Ciphers", "3des-cbc"));
    assert!(!text.is_empty());
    let mut host = running(&sshd, "true");
    host.host = "-oProxyCommand=x".to_owned();
    assert!(matches!(host.connect(), Err(TransportError::Host(_))));
}

/// An environment whose `ssh` reads a configuration file that leads to the daemon as `standby`.
fn configured(sshd: &Sshd, more: &str) -> (Environment, String) {
    let environment = Environment::new();
    let (dir, home) = (sshd.dir().display(), environment.home());
    let login = sshd.login();
    let user = login.split('@').next().expect("a user");
    let config = home.join("config");
    let text = format!(
        "Host standby\n HostName 127.0.0.1\n Port {}\n User {user}\n IdentityFile {dir}/client_key\n \
         UserKnownHostsFile {dir}/known_hosts\n GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n \
         IdentityAgent none\n{more}",
        sshd.address().port()
    );
    fs::write(&config, text).expect("a configuration");
    let bin = home.join("bin");
    fs::create_dir(&bin).expect("a directory");
    // It answers questions about the configuration and carries nothing.
    let ssh =
        format!("#!/bin/sh\ntest \"$1\" = -G || exit 99\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display());
    fs::write(bin.join("ssh"), ssh).expect("a script");
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    (environment, path)
}

fn sync(environment: &Environment, path: &str, arguments: &[&str]) -> crate::support::command::Outcome {
    let mut command = environment.speil(["sync", "-a", "--transport=ssh2"]);
    command.args(arguments).env("PATH", path);
    Background::spawn(command).wait()
}

#[test]
fn sync_in_process_brings_the_agent_and_the_tree() {
    let sshd = Sshd::start();
    let (environment, path) = configured(&sshd, "");
    let source = environment.home().join("source");
    fs::create_dir_all(source.join("below")).expect("a tree");
    fs::write(source.join("below/file"), vec![1; 3 * MIB]).expect("a file");
    let target = sshd.dir().join("target");
    let from = format!("{}/", source.display());
    let to = format!("standby:{}", target.display());
    let _ = sync(&environment, &path, &["--agent=deploy", &from, &to]).succeeded();
    assert_eq!(fs::read(target.join("below/file")).expect("the copy").len(), 3 * MIB);
    let deployed: Vec<_> =
        fs::read_dir(sshd.dir().join("home/.cache/speil")).expect("a folder").flatten().collect();
    assert_eq!(deployed.len(), 1, "{deployed:?}");

    fs::write(source.join("second"), b"2").expect("a file");
    let agent = format!("--agent={SPEIL} agent");
    let _ = sync(&environment, &path, &["--connections=3", &agent, &from, &to]).succeeded();
    assert_eq!(fs::read(target.join("second")).expect("the copy"), b"2");
}

#[test]
fn sync_in_process_says_what_it_cannot_do() {
    let sshd = Sshd::start();
    let (environment, path) = configured(&sshd, "Host behind\n ProxyJump standby\n");
    let from = format!("{}/", environment.home().display());
    let outcome = sync(&environment, &path, &["-e", "ssh -4", &from, "standby:/x"]);
    assert!(outcome.code() == 1 && outcome.stderr.contains("--rsh"), "{outcome:?}");
    let outcome = sync(&environment, &path, &[&from, "behind:/x"]);
    assert!(outcome.code() != 0 && outcome.stderr.contains("proxyjump \"standby\""), "{outcome:?}");
}
