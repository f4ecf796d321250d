//! `contrib/keepalived/`: keepalived takes the configuration as it is, and the notify script moves the role of real
//! trees with the address.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::command::{Environment, SPEIL, agent_command, eventually};
use crate::support::sshd::find;
use crate::support::stand::scratch;

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/keepalived")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A host with a tree, and the notify script as keepalived calls it there.
struct Host {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("speil-notify").tempdir_in(scratch()).unwrap();
        for name in ["run", "hooks", "uploads", "avatars"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let host = Self { dir, environment: Environment::new() };
        for name in ["primary", "standby"] {
            let hook = host.path("hooks").join(name);
            // What the service would do, and the role that the tree has at that moment.
            let text = format!(
                "#!/bin/sh\necho {name} $(sed -n 's/^role //p' \"$1/.speil/role\") >>'{}'\n",
                host.path("done").display()
            );
            fs::write(&hook, text).unwrap();
            fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tree(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn verb(&self, words: &[&str], tree: &str) {
        let root = self.tree(tree);
        self.environment.run(words.iter().copied().chain(["--root", &root])).succeeded();
    }

    fn role(&self, tree: &str) -> String {
        let text = fs::read_to_string(self.path(tree).join(".speil/role")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("role ")).unwrap_or("none").to_owned()
    }

    /// Calls the script with a state, as keepalived does.
    fn notify(&self, trees: &[&str], state: &str) -> Output {
        self.notifies(trees, state, "0").output().unwrap()
    }

    /// The same; the address has to stay for so many seconds.
    fn notifies(&self, trees: &[&str], state: &str, settle: &str) -> Command {
        let mut command = self.environment.command(contrib().join("speil-notify"));
        command.args(trees.iter().map(|tree| self.tree(tree)));
        command.args(["INSTANCE", "uploads", state, "170"]);
        command.env("SPEIL", SPEIL).env("SPEIL_NOTIFY_RUN", self.path("run"));
        command.env("SPEIL_NOTIFY_HOOKS", self.path("hooks")).env("SPEIL_NOTIFY_SETTLE", settle);
        command
    }

    /// What keepalived adds to the priority.
    fn priority(&self) -> String {
        fs::read_to_string(self.path("run/speil-uploads.priority")).unwrap_or_default().trim().to_owned()
    }

    /// What was done with the service since it was asked last.
    fn done(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("done")).unwrap_or_default();
        let _ = fs::remove_file(self.path("done"));
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn keepalived_takes_the_configuration_without_a_complaint() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let keepalived = find("keepalived").expect("the tests need keepalived: make packages");
    // The files where they are meant to be, and a network card of that name.
    let script = "
        for dir in /etc/keepalived /usr/local/bin; do
            [ -d $dir ] || { mount -t tmpfs none /etc; mkdir $dir; }
            mount -t tmpfs -o mode=755 none $dir
        done
        cp \"$2\"/* \"$2\"/../mysql/speil-mysql /etc/keepalived/
        install -m 755 /bin/true /usr/local/bin/speil
        ip link add eth0 type veth peer name eth1
        for dir in keepalived mysql; do \"$1\" -t -f \"$2\"/../$dir/keepalived.conf; done";
    let mut command = Environment::new().command("unshare");
    command.args(["-n", "-m", "--propagation", "private", "sh", "-eu", "-c", script, "sh"]);
    let output = command.arg(keepalived).arg(contrib()).output().expect("unshare");
    assert!(output.status.success() && said(&output).is_empty(), "{}: {}", output.status, said(&output));
}

#[test]
fn what_the_configuration_calls_exists() {
    let text = fs::read_to_string(contrib().join("keepalived.conf")).unwrap();
    let quoted = |prefix: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(prefix));
        line.unwrap_or_else(|| panic!("{prefix}")).trim_end_matches('"').to_owned()
    };
    let health = quoted("script \"/usr/local/bin/speil ");
    let _ = Environment::new().run(health.split(' ').chain(["--help"])).succeeded();
    assert_eq!(quoted("notify \"/etc/keepalived/"), "speil-notify /srv/uploads");
    assert!(
        quoted("notify_stop \"/etc/keepalived/")
            .starts_with("speil-notify /srv/uploads INSTANCE uploads STOP")
    );
    assert_eq!(quoted("file \""), "/run/speil-uploads.priority");
}

#[test]
fn an_address_that_a_primary_has_given_up_is_not_waited_for() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    host.verb(&["demote"], "uploads");
    let role = fs::read_to_string(host.path("uploads/.speil/role")).unwrap();
    let id = role.lines().find_map(|line| line.strip_prefix("generation 1 ")).unwrap().to_owned();
    // As its agent has heard it. Without it this would take as long as is said.
    fs::write(host.path("uploads/.speil/stepped"), format!("{id}\n")).unwrap();
    let output = host.notifies(&["uploads"], "MASTER", "6000").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(host.role("uploads"), "primary");
}

#[test]
fn the_role_follows_each_state_and_the_service_never_runs_on_a_standby() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    host.verb(&["promote", "--force"], "avatars");
    let both = ["uploads", "avatars"];
    // keepalived starts: nobody has led since, and so the generation stays, and with it the rank.
    for state in ["FAULT", "BACKUP", "STOP", "DELETED"] {
        let output = host.notify(&both, state);
        assert!(output.status.success(), "{}", said(&output));
        assert!(both.iter().all(|tree| host.role(tree) == "standby"), "{state}");
        // The service is stopped while the tree still leads.
        assert_eq!(
            (host.done(), host.priority()),
            (vec!["standby primary".into()], "55".to_owned()),
            "{state}"
        );
        let output = host.notify(&both, "MASTER");
        assert!(output.status.success(), "{}", said(&output));
        assert!(both.iter().all(|tree| host.role(tree) == "primary"), "{state}");
        assert_eq!((host.done(), host.priority()), (vec!["primary primary".into()], "55".to_owned()));
    }
    // What is no change of the address changes nothing.
    assert!(host.notify(&both, "MASTER_RX_LOWER_PRI").status.success());
    assert_eq!((host.role("uploads"), host.done()), ("primary".to_owned(), vec![]));
    assert!(fs::read_to_string(host.path("uploads/.speil/role")).unwrap().contains("generation 1 "));
}

#[test]
fn a_host_that_led_last_and_never_was_a_target_is_fit_for_the_address() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    assert!(host.notify(&["uploads"], "BACKUP").status.success());
    let health = host.environment.run(["health", "--max-lag", "1m", "--root", &host.tree("uploads")]);
    assert_eq!(health.code(), 0, "{health:?}");
}

#[test]
fn a_tree_is_not_promoted_without_its_database_and_a_database_not_without_its_tree() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    host.verb(&["demote"], "uploads");
    let database = |name: &str, code: u8| {
        let text = format!(
            "#!/bin/sh\necho {name} $(sed -n 's/^role //p' \"$1/.speil/role\") >>'{}'\nexit {code}\n",
            host.path("done").display()
        );
        let hook = host.path("hooks").join(name);
        fs::write(&hook, text).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    };
    database("promote", 3);
    database("demote", 0);
    assert_eq!(host.notify(&["uploads"], "MASTER").status.code(), Some(1));
    assert_eq!((host.role("uploads"), host.done()), ("standby".to_owned(), vec!["promote standby".into()]));
    database("promote", 0);
    assert!(host.notify(&["uploads"], "MASTER").status.success());
    assert_eq!(host.done(), ["promote standby", "primary primary"]);
    assert!(host.notify(&["uploads"], "BACKUP").status.success());
    assert_eq!(host.done(), ["standby primary", "demote standby"]);
    // The second tree may not lead: then neither it nor the database is touched.
    host.verb(&["demote"], "avatars");
    assert_eq!(host.notify(&["uploads", "avatars"], "MASTER").status.code(), Some(1));
    assert_eq!((host.role("uploads"), host.done()), ("standby".to_owned(), vec![]));
}

#[test]
fn of_two_notifications_the_one_that_was_started_later_decides() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    assert!(host.notify(&["uploads"], "MASTER").status.success());
    // One that was started later was faster.
    let last = host.path("run/speil-uploads.last");
    let began: u64 = fs::read_to_string(&last).unwrap().trim().parse().unwrap();
    fs::write(&last, format!("{}\n", began + 1_000_000_000_000)).unwrap();
    let output = host.notify(&["uploads"], "BACKUP");
    assert!(output.status.success() && said(&output).contains("was followed"), "{}", said(&output));
    assert_eq!(host.role("uploads"), "primary");
}

#[test]
fn an_address_that_comes_for_a_moment_promotes_nobody() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    host.verb(&["demote"], "uploads");
    let last = || fs::read_to_string(host.path("run/speil-uploads.last")).unwrap_or_default();
    let mut came = host.notifies(&["uploads"], "MASTER", "5").spawn().unwrap();
    eventually("the address came", || !last().is_empty());
    let first = last();
    let mut went = host.notifies(&["uploads"], "BACKUP", "5").spawn().unwrap();
    eventually("the address went", || last() != first);
    assert!(came.wait().unwrap().success() && went.wait().unwrap().success());
    assert_eq!((host.role("uploads"), host.done()), ("standby".to_owned(), vec!["standby standby".into()]));
}

#[test]
fn a_promotion_that_is_refused_starts_no_service_and_a_tree_without_a_role_is_given_none() {
    let host = Host::new();
    for state in ["MASTER", "BACKUP"] {
        let output = host.notify(&["uploads"], state);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("look whether its volume is mounted"), "{}", said(&output));
        assert!(!host.path("uploads/.speil").exists(), "the mount point of a missing volume stays as it is");
    }
    host.done();
    // It has joined, and was never in step.
    host.verb(&["demote"], "uploads");
    let output = host.notify(&["uploads"], "MASTER");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("speil promote --force --root"), "{}", said(&output));
    assert_eq!((host.role("uploads"), host.priority()), ("standby".to_owned(), "0".to_owned()));
    assert!(host.done().is_empty(), "a service writes into a tree that does not lead");
    // The last four words are keepalived's.
    let few =
        Command::new(contrib().join("speil-notify")).args(["INSTANCE", "uploads", "MASTER", "170"]).output();
    assert_eq!(few.unwrap().status.code(), Some(1));
}

#[test]
fn what_was_written_before_the_address_went_is_sent_before_the_tree_is_demoted() {
    let host = Host::new();
    host.verb(&["demote"], "avatars");
    host.verb(&["promote", "--force"], "uploads");
    let control = format!("--control={}", host.path("control").display());
    let config = host.path("speil.lua");
    let text = format!(
        "sync {{ default.mirror, name = \"uploads\", source = {:?}, target = {:?}, agent = {:?} }}\n",
        host.path("uploads"),
        host.path("avatars"),
        agent_command()
    );
    fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let daemon = host.environment.spawn(["run", &control, &config]);
    eventually("in step", || {
        let role = fs::read_to_string(host.path("avatars/.speil/role")).unwrap_or_default();
        role.contains("generation 1 ") && !role.contains("adopting")
    });
    // The last write of the service, when it is stopped.
    let last = format!("#!/bin/sh\nhead -c 3000000 /dev/zero >'{}'\n", host.path("uploads/last").display());
    fs::write(host.path("hooks/standby"), last).unwrap();
    // The daemon's socket is where it is asked for.
    let wrapper = host.path("speil");
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = wait ]; then exec '{SPEIL}' \"$@\" '{control}'; fi\nexec '{SPEIL}' \"$@\"\n"
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = host.environment.command(contrib().join("speil-notify"));
    command.args([&host.tree("uploads"), "INSTANCE", "uploads", "STOP", "0"]);
    command.env("SPEIL", &wrapper).env("SPEIL_NOTIFY_RUN", host.path("run"));
    command.env("SPEIL_NOTIFY_HOOKS", host.path("hooks"));
    let output = command.output().unwrap();
    assert!(output.status.success() && !said(&output).contains("not everything"), "{}", said(&output));
    assert_eq!(fs::metadata(host.path("avatars/last")).unwrap().len(), 3_000_000);
    assert_eq!(host.role("uploads"), "standby");
    daemon.terminate();
}

#[test]
fn a_planned_switch_stops_the_service_first_and_starts_it_again_where_nothing_comes_of_it() {
    let host = Host::new();
    host.verb(&["promote", "--force"], "uploads");
    // What speil-switch says on the host that leads: nothing of it is what keepalived has seen.
    assert!(host.notify(&["uploads"], "YIELD").status.success());
    assert_eq!(host.done(), ["standby primary"]);
    assert!(host.notify(&["uploads"], "KEEP").status.success());
    assert_eq!((host.done(), host.priority()), (vec!["primary primary".to_owned()], "55".to_owned()));
    assert_eq!(host.role("uploads"), "primary");
    host.verb(&["demote"], "uploads");
    assert!(host.notify(&["uploads"], "KEEP").status.success());
    assert_eq!(
        (host.done(), host.priority()),
        (vec![], "-254".to_owned()),
        "the service is not started on a standby"
    );
    assert!(host.notify(&["uploads"], "RANK").status.success());
    assert_eq!(host.priority(), "55", "it led last");
    assert!(host.notify(&["uploads"], "GONE").status.success());
    assert_eq!(host.priority(), "-254");
    // It leads already when the address comes: nothing is waited for.
    host.verb(&["promote"], "uploads");
    let said = host.notifies(&["uploads"], "MASTER", "600").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(host.done(), ["primary primary"]);
}

#[test]
fn a_switch_asks_before_it_stops_anything_and_the_other_end_survives_its_death() {
    let (old, new) = (Host::new(), Host::new());
    old.verb(&["promote", "--force"], "uploads");
    new.verb(&["promote", "--force"], "uploads");
    new.verb(&["demote"], "uploads");
    let script = |host: &Host, name: &str, text: String| {
        let path = host.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let notify = |host: &Host| {
        let (run, hooks) = (host.path("run"), host.path("hooks"));
        let tree = new.tree("uploads");
        format!(
            "#!/bin/sh\nexport SPEIL={SPEIL} SPEIL_NOTIFY_RUN={} SPEIL_NOTIFY_HOOKS={}\nshift\nexec {}/speil-notify {} \"$@\"\n",
            run.display(),
            hooks.display(),
            contrib().display(),
            if run == new.path("run") { tree } else { old.tree("uploads") }
        )
    };
    // On the other host the same words mean its own tree.
    script(&new, "notify", notify(&new));
    let there = script(&old, "notify", notify(&old));
    let ssh = |ends: &str| {
        let text = format!(
            "#!/bin/sh\neval last=\\${{$#}}\n{ends}\nexec sh -c \"$(echo \"$last\" | sed 's,{},{},g')\"\n",
            new.path("notify").display(),
            there.display()
        );
        script(&new, "ssh", text)
    };
    let switch = |ssh: PathBuf| {
        let mut command = new.environment.command(contrib().join("speil-switch"));
        command.args(["oslo", "uploads", &new.tree("uploads")]);
        command.env("SPEIL", SPEIL).env("SPEIL_NOTIFY_RUN", new.path("run"));
        command.env("SPEIL_NOTIFY", new.path("notify")).env("SPEIL_SWITCH_SSH", ssh);
        command
    };
    // With a database it is another order.
    script(&new, "hooks/promote", "#!/bin/sh\n".to_owned());
    let said = switch(ssh("")).env("SPEIL_NOTIFY_HOOKS", new.path("hooks")).output().unwrap();
    assert_eq!((said.status.code(), old.done()), (Some(3), vec![]), "{said:?}");
    fs::remove_file(new.path("hooks/promote")).unwrap();
    // No way in: nothing was touched.
    let said = switch(ssh("exit 255")).output().unwrap();
    assert_eq!(said.status.code(), Some(10), "{said:?}");
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("no login as root; nothing was changed"),
        "{said:?}"
    );
    assert_eq!((old.done(), new.role("uploads")), (vec![], "standby".to_owned()));
    // The switch is killed as soon as the service is stopped: the other end starts it again.
    let mut killed = switch(ssh(""));
    killed.env("SPEIL", script(&new, "speil", "#!/bin/sh\n[ \"$2\" = -n ] || kill -KILL $PPID\n".to_owned()));
    assert!(!killed.status().unwrap().success());
    eventually("the service is started again", || {
        fs::read_to_string(old.path("done")).unwrap_or_default() == "standby primary\nprimary primary\n"
    });
    old.done();
    // No session is at work between the two: it is promoted as if the old one were gone, and that one gives way.
    let said = switch(ssh("")).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(new.role("uploads"), "primary");
    assert_eq!((old.done(), old.priority()), (vec!["standby primary".to_owned()], "-254".to_owned()));
    assert_eq!(new.priority(), "55");
}
