//! `contrib/watchdog/`: a standby is promoted when no host leads any more, and not before.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::command::{Environment, SPEIL};
use crate::support::stand::scratch;

/// Hosts that are directories, behind an ssh that runs there what it is given.
struct Hosts {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Hosts {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("speil-watchdog").tempdir_in(scratch()).unwrap();
        let hosts = Self { dir, environment: Environment::new() };
        for name in ["oslo", "bergen", "run", "hooks"] {
            fs::create_dir(hosts.path(name)).unwrap();
        }
        // `ssh [options] HOST COMMAND`: the tree of a host is named after it; one that is off has a file that says so.
        // From one host to another it is the same, unless the network between them is cut.
        let text = format!(
            "#!/bin/sh\nwhile :; do case $1 in -o | -i) shift 2 ;; *) break ;; esac; done\nhost=$1; shift\n\
             cd '{0}'\n[ ! -e \"off.$host\" ] && [ ! -e \"cut.$HERE.$host\" ] || exit 255\n\
             export HERE=$host\nspeil() {{ verb=$1; shift; '{SPEIL}' \"$verb\" $(echo \"$@\" | sed \"s,/srv/uploads,{0}/$host,\"); }}\n\
             ssh() {{ '{0}/ssh' \"$@\"; }}\neval \"$@\"\n",
            hosts.dir.path().display()
        );
        hosts.script("ssh", &text);
        hosts.script("hooks/promoted", &format!("#!/bin/sh\necho $1 >'{}'\n", hosts.path("moved").display()));
        for (host, words) in [("oslo", &["promote", "--force"][..]), ("bergen", &["demote"])] {
            hosts.verb(host, words);
        }
        hosts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn verb(&self, host: &str, words: &[&str]) {
        let root = self.path(host).display().to_string();
        self.environment.run(words.iter().copied().chain(["--root", &root])).succeeded();
    }

    /// Runs the watchdog as cron does; returns how it ended, and its mail.
    fn watch(&self) -> (i32, String) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/watchdog/speil-watchdog");
        let mut command = self.environment.command(program);
        command.args(["/srv/uploads", "oslo", "bergen"]).env("SPEIL_WATCHDOG_SSH", self.path("ssh"));
        command.env("SPEIL_WATCHDOG_RUN", self.path("run")).env("SPEIL_WATCHDOG_HOOKS", self.path("hooks"));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    fn role(&self, host: &str) -> String {
        fs::read_to_string(self.path(host).join(".speil/role")).unwrap_or_default()
    }
}

/// A standby that may be promoted: it has led, and has heard of nothing younger.
fn ready(hosts: &Hosts) {
    hosts.verb("bergen", &["promote", "--force"]);
    hosts.verb("bergen", &["demote"]);
}

#[test]
fn a_standby_is_promoted_in_the_third_run_in_which_nobody_leads() {
    let hosts = Hosts::new();
    ready(&hosts);
    assert_eq!(hosts.watch(), (0, String::new()), "cron mails nothing while one leads");
    fs::write(hosts.path("off.oslo"), "").unwrap();
    for _ in 0..2 {
        let (code, said) = hosts.watch();
        assert!(
            code == 10 && said.contains("oslo: no answer") && said.contains("is standby, not primary"),
            "{said}"
        );
        assert!(hosts.role("bergen").contains("role standby"));
    }
    let (code, said) = hosts.watch();
    assert!(code == 0 && said.contains("bergen is promoted"), "{said}");
    assert!(hosts.role("bergen").contains("role primary"));
    assert_eq!(fs::read_to_string(hosts.path("moved")).unwrap(), "bergen\n");
    assert_eq!(hosts.watch(), (0, String::new()));
}

#[test]
fn who_is_cut_off_itself_promotes_nobody_and_a_refusal_is_told() {
    let hosts = Hosts::new();
    ready(&hosts);
    // From here, Oslo cannot be reached; from Bergen it can.
    fs::write(hosts.path("cut..oslo"), "").unwrap();
    (0..2).for_each(|_| assert_eq!(hosts.watch().0, 10));
    let (code, said) = hosts.watch();
    assert!(code == 10 && said.contains("bergen reaches oslo, which leads"), "{said}");
    assert!(hosts.role("bergen").contains("role standby"));
    // One that was never in step is not promoted, and what to type is in the mail.
    let other = Hosts::new();
    fs::write(other.path("off.oslo"), "").unwrap();
    (0..2).for_each(|_| assert_eq!(other.watch().0, 10));
    let (code, said) = other.watch();
    assert!(code == 10 && said.contains("none could be promoted") && said.contains("--force"), "{said}");
    assert!(!other.path("moved").exists());
}
