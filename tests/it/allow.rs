//! `allowTargets`: nothing is sent to a host that is not allowed.

use std::fs;

use crate::support::command::{Environment, agent_command, eventually};
use crate::support::sshd::Sshd;

/// A configuration of one sync to the sshd, which may send to `allowed` only.
fn configuration(sshd: &Sshd, dir: &std::path::Path, allowed: &str, transport: &str) -> String {
    let (keys, port, agent) = (sshd.dir().display(), sshd.address().port(), agent_command());
    format!(
        "settings {{ allowTargets = {{ {allowed} }} }}\n\
         sync {{ default.mirror, name = \"www\", source = {:?}, target = {:?}, agent = {agent:?}, transport = \"{transport}\",\n\
         ssh = {{ port = {port}, identityFile = \"{keys}/client_key\", options = {{ UserKnownHostsFile = \"{keys}/known_hosts\", \
         GlobalKnownHostsFile = \"none\", StrictHostKeyChecking = \"yes\", IdentitiesOnly = \"yes\" }} }} }}\n",
        dir.join("source"),
        sshd.target(&dir.join("target")),
    )
}

#[test]
fn a_target_outside_of_what_is_allowed_is_never_connected_to() {
    let sshd = Sshd::start();
    let environment = Environment::new();
    for transport in ["ssh", "ssh2"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        fs::write(dir.path().join("source/file"), "secret").unwrap();
        let file = dir.path().join("speil.lua");
        let (config, control) =
            (file.display().to_string(), format!("--control={}", dir.path().join("control").display()));
        // Whoever connects is seen here, whatever it says.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let text = configuration(&sshd, dir.path(), "\"10.8.0.0/24\", \"*.example.no\"", transport);
        let port = |port: u16| format!("port = {port}");
        let text = text.replace(&port(sshd.address().port()), &port(listener.local_addr().unwrap().port()));
        fs::write(&file, text).unwrap();
        let refused = environment.spawn(["run", &control, &config]);
        let line = refused.wait_for_error_line("allowTargets");
        assert!(line.contains("127.0.0.1") && line.contains("nothing was sent"), "{line}");
        refused.terminate();
        let nobody = listener.accept().map(drop).unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "{transport}: the host was connected to");
        assert!(!dir.path().join("target").exists());

        fs::write(&file, configuration(&sshd, dir.path(), "\"127.0.0.0/8\"", transport)).unwrap();
        let allowed = environment.spawn(["run", &control, &config]);
        eventually("what may go there goes", || dir.path().join("target/file").exists());
        allowed.terminate();
    }
}
