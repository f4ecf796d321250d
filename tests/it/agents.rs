//! `speil agents`: which speil each host has, and which copies of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::command::Environment;
use crate::support::sshd::Sshd;

#[test]
fn installed_and_uploaded_programs_are_listed_and_those_of_other_builds_are_removed_on_request() {
    let (sshd, environment, dir) = (Sshd::start(), Environment::new(), tempfile::tempdir().unwrap());
    fs::create_dir(dir.path().join("source")).unwrap();
    let configure = |transport: &str| {
        let keys = sshd.dir().display();
        let ssh = match transport {
            "ssh" => format!("command = {:?}", sshd.ssh_command()),
            _ => format!(
                "port = {}, identityFile = \"{keys}/client_key\", options = {{ UserKnownHostsFile = \"{keys}/known_hosts\" }}",
                sshd.address().port()
            ),
        };
        let targets =
            ["one", "two"].map(|name| format!("{:?}", sshd.target(&dir.path().join(name)))).join(", ");
        let text = format!(
            "sync {{ default.mirror, source = {:?}, targets = {{ {targets}, {:?} }}, transport = {transport:?}, ssh = {{ {ssh} }} }}",
            dir.path().join("source"),
            dir.path().join("here"),
        );
        fs::write(dir.path().join("speil.lua"), text).unwrap();
    };
    let config = dir.path().join("speil.lua").display().to_string();
    configure("ssh");
    let told = environment.run(["agents", &config]).succeeded();
    assert_eq!(told.stdout, format!("{}: none is installed", sshd.login()), "once for each host: {told:?}");

    sshd.install_agent();
    let copies = sshd.dir().join("home/.cache/speil");
    fs::create_dir_all(&copies).unwrap();
    let old = format!("speil-{}", "0f".repeat(16));
    let write = |name: &str| {
        fs::write(copies.join(name), "#!/bin/sh\necho speil 0.0.9\n").unwrap();
        fs::set_permissions(copies.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    };
    write(&old);
    write("speil-of-mine");
    let told = environment.run(["agents", &config]).succeeded().stdout;
    let version = env!("CARGO_PKG_VERSION");
    assert!(told.contains(&format!(": speil {version} is installed")), "{told}");
    assert!(told.contains(&format!("{old}: speil 0.0.9, 27 bytes, of another build; --remove")), "{told}");
    assert!(!told.contains("of-mine"), "{told}");
    for transport in ["ssh", "ssh2"] {
        configure(transport);
        write(&old);
        let told = environment.run(["agents", "--remove", "--json", &config]).succeeded().stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let copy = &told["hosts"][0]["copies"][0];
        assert!(copy["name"] == old.as_str() && copy["removed"] == true && copy["own"] == false, "{told}");
        assert!(!copies.join(&old).exists() && copies.join("speil-of-mine").exists());
    }
    configure("ssh");

    // A key that allows the agent alone.
    let keys = sshd.dir().join("authorized_keys");
    let key = fs::read_to_string(&keys).unwrap();
    let forced = format!(
        "command=\"{} agent --root {}\",restrict {key}",
        sshd.dir().join("bin/speil").display(),
        dir.path().display()
    );
    fs::write(&keys, forced).unwrap();
    let refused = environment.run(["agents", &config]);
    assert!(
        refused.code() == 23 && refused.stderr.contains("its key may allow the agent alone"),
        "{refused:?}"
    );
    let none = environment.run(["agents", dir.path().join("none.lua").to_str().unwrap()]);
    assert_eq!(none.code(), 1, "{none:?}");
}
