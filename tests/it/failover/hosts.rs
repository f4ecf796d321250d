//! `hosts`: the same file on each host says which ones hold the tree; the roles say who sends, and some never do.

use std::fs;
use std::path::PathBuf;

use super::{BERGEN, Hosts, OSLO, TROMSO};
use crate::support::command::{Background, Outcome, agent_command, eventually};

/// The one file, and for each host one line that stands for its name.
struct OneFile {
    hosts: Hosts,
}

impl OneFile {
    /// `leads`: what the entry of tromso says.
    fn new(leads: bool) -> Self {
        let hosts = Hosts::new();
        let tree = |host| hosts.tree(host).display().to_string();
        let text = format!(
            "sync {{ default.mirror, name = \"uploads\", source = \"/srv/uploads/\", agent = {:?},\n\
             hosts = {{ oslo = {:?}, bergen = {:?}, tromso = {{ {:?}, mayLead = {leads} }} }},\n\
             reconcile = {{ interval = \"never\" }} }}\n",
            agent_command(),
            tree(OSLO),
            tree(BERGEN),
            tree(TROMSO)
        );
        let this = Self { hosts };
        fs::write(this.path("shared.lua"), text).unwrap();
        for host in super::ALL {
            let text = format!("settings {{ host = {host:?} }} dofile(\"shared.lua\")\n");
            fs::write(this.config(host), text).unwrap();
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.hosts.dir.path().join(name)
    }

    fn config(&self, host: &str) -> PathBuf {
        self.path(&format!("{host}.lua"))
    }

    fn start(&self, host: &str) -> Background {
        let config = self.config(host).display().to_string();
        self.hosts.environment.spawn(["run", &self.hosts.control(host), &config])
    }

    /// A verb by the name of the sync.
    fn verb(&self, host: &str, words: &[&str]) -> Outcome {
        let config = format!("--config={}", self.config(host).display());
        let (verb, more) = words.split_first().unwrap();
        let words: Vec<&str> = [*verb, &config, "uploads"].into_iter().chain(more.iter().copied()).collect();
        self.hosts.environment.run(words)
    }

    /// The same for the tree, which takes no configuration but to learn who may lead.
    fn verb_of_tree(&self, host: &str, words: &[&str]) -> Outcome {
        let config = format!("--config={}", self.config(host).display());
        let words: Vec<&str> = words.iter().copied().chain([config.as_str()]).collect();
        self.hosts.verb(host, &words)
    }

    /// What the daemon says; nothing before it answers.
    fn status(&self, host: &str) -> String {
        self.hosts.environment.run(["status", &self.hosts.control(host)]).stdout
    }

    /// Oslo leads, the others have joined, by the file alone.
    fn set_up(&self) -> [Background; 3] {
        self.verb(OSLO, &["promote"]).succeeded();
        self.verb(BERGEN, &["demote"]).succeeded();
        self.verb(TROMSO, &["demote"]).succeeded();
        let daemons = super::ALL.map(|host| self.start(host));
        for host in [BERGEN, TROMSO] {
            eventually("a standby in step", || self.hosts.follows(host, 1));
        }
        daemons
    }
}

#[test]
fn nobody_sends_until_one_host_is_promoted_and_then_the_same_file_serves_each_of_them() {
    let one = OneFile::new(true);
    let hosts = &one.hosts;
    hosts.write(OSLO, "upload", "the truth");
    let [oslo, bergen, tromso] = super::ALL.map(|host| one.start(host));
    let line = "no role yet: nothing is sent until `speil promote uploads` is typed on the host that holds the truth";
    for host in super::ALL {
        eventually("the status says it", || one.status(host).contains(line));
        assert_eq!(one.status(host).matches("no role yet").count(), 1, "{}", one.status(host));
    }
    let waited = hosts.environment.run(["wait", &hosts.control(OSLO)]);
    assert_eq!(waited.code(), 12, "{waited:?}");
    assert!(waited.stderr.contains(line), "{waited:?}");
    assert_eq!(hosts.read(BERGEN, "upload"), None);
    // The others are asked: no force is needed.
    one.verb(OSLO, &["promote"]).succeeded();
    for (host, daemon) in [(BERGEN, &bergen), (TROMSO, &tromso)] {
        eventually("the primary is refused by a tree that nobody has given to it", || {
            oslo.stderr()
                .iter()
                .any(|it| it.contains(&format!("uploads → {host}")) && it.contains("it is new"))
        });
        let refused = one.verb(host, &["promote"]);
        assert_eq!(refused.code(), 3, "{refused:?}");
        assert!(refused.stderr.contains("is at generation 1"), "{refused:?}");
        one.verb(host, &["demote"]).succeeded();
        hosts.environment.run(["retry", &hosts.control(OSLO)]).succeeded();
        eventually("a standby in step", || hosts.follows(host, 1));
        assert!(daemon.is_running());
    }
    hosts.assert_equal(OSLO, TROMSO);
    // The switch: the same file, another host.
    hosts.wait(OSLO);
    one.verb(OSLO, &["demote"]).succeeded();
    one.verb(BERGEN, &["promote"]).succeeded();
    hosts.write(BERGEN, "after", "written on bergen");
    for host in [OSLO, TROMSO] {
        eventually("a standby follows", || hosts.follows(host, 2) && hosts.read(host, "after").is_some());
    }
    // A host of the sync by its key.
    let already = one.verb(TROMSO, &["rejoin", "bergen"]).succeeded();
    assert!(already.stdout.contains("is a standby at generation 2 already"), "{already:?}");
    assert!(hosts.nothing_kept());
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn a_tree_without_a_role_learns_that_another_host_leads_and_is_not_sent_from() {
    let one = OneFile::new(true);
    let hosts = &one.hosts;
    let [oslo, bergen, tromso] = one.set_up();
    hosts.write(OSLO, "upload", "an upload");
    eventually("an upload", || hosts.read(TROMSO, "upload").is_some());
    // The volume is away, and its mount point is in its place.
    tromso.terminate();
    fs::rename(hosts.tree(TROMSO), hosts.tree("volume")).unwrap();
    fs::create_dir(hosts.tree(TROMSO)).unwrap();
    let tromso = one.start(TROMSO);
    eventually("tromso says who leads", || {
        let status = one.status(TROMSO);
        status.contains("leads generation 1: nothing comes here until `speil demote uploads` is typed")
            && status.matches("no role yet").count() == 1
    });
    assert_eq!(hosts.read(OSLO, "upload").as_deref(), Some("an upload"));
    assert_eq!(fs::read_dir(hosts.tree(TROMSO)).unwrap().count(), 0, "nothing was made there");
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn a_host_that_may_not_lead_is_not_promoted_and_keeps_nobody_from_leading() {
    let one = OneFile::new(false);
    let hosts = &one.hosts;
    let [oslo, bergen, tromso] = one.set_up();
    for refused in [
        one.verb(TROMSO, &["promote"]),
        one.verb(TROMSO, &["promote", "--force=half"]),
        one.verb_of_tree(TROMSO, &["promote", "--force"]),
        one.verb_of_tree(TROMSO, &["promote", "-n"]),
    ] {
        assert_eq!(refused.code(), 3, "{refused:?}");
        assert!(refused.stderr.contains("tromso, whose entry in hosts has mayLead = false"), "{refused:?}");
        assert!(
            refused.stderr.contains("`speil promote uploads` on oslo makes that one primary"),
            "{refused:?}"
        );
    }
    let health = |host, more: &[&str]| {
        let words: Vec<&str> = ["health", "--max-lag=60s"].iter().chain(more).copied().collect();
        if more.is_empty() { hosts.verb(host, &words) } else { one.verb_of_tree(host, &words) }
    };
    assert_eq!([health(OSLO, &["--may-lead"]).code(), health(BERGEN, &["--may-lead"]).code()], [0, 0]);
    assert_eq!([health(TROMSO, &["--may-lead"]).code(), health(TROMSO, &[]).code()], [30, 0]);
    // What cannot be read forbids nothing, in the night in which nothing else works; and that is said.
    fs::write(one.path("broken.lua"), "sync {").unwrap();
    let config = format!("--config={}", one.path("broken.lua").display());
    for words in [["promote", "-n", &config], ["health", "--may-lead", &config]] {
        let done = hosts.verb(BERGEN, &words).succeeded();
        assert!(done.stderr.contains("whether this host may lead is not known"), "{done:?}");
    }
    // Without its configuration it knows nothing of that, and asks; its primary does not hand over to it.
    let none = format!("--config={}", one.path("none.lua").display());
    let asked = hosts.verb(TROMSO, &["promote", "--wait=10s", &none]);
    assert_eq!(asked.code(), 30, "{asked:?}");
    assert!(
        asked.stderr.contains("this host has mayLead = false in hosts: it never leads; nothing was"),
        "{asked:?}"
    );
    // A name that nobody bears is told before anybody is asked.
    let nobody = one.verb(BERGEN, &["rejoin", "nosuch"]);
    assert_eq!(nobody.code(), 1, "{nobody:?}");
    assert!(
        nobody.stderr.contains("no other host nosuch in hosts of uploads\nhint: it has oslo, tromso"),
        "{nobody:?}"
    );
    // In hostile hands: it says that it leads a generation which came after the primary's.
    hosts.verb(TROMSO, &["promote", "--force"]).succeeded();
    eventually("its own daemon sends nothing", || {
        one.status(TROMSO)
            .contains("primary of generation 2, but tromso has mayLead = false in hosts; nothing is sent")
    });
    eventually("its word does not count", || {
        oslo.stderr().iter().any(|line| line.contains("so its word does not count here"))
    });
    hosts.write(OSLO, "upload", "an upload");
    eventually("the others are sent to", || hosts.read(BERGEN, "upload").is_some());
    for host in [OSLO, BERGEN] {
        assert!(!hosts.role(host).contains("known"), "{}", hosts.role(host));
        assert_eq!(health(host, &[]).code(), 0, "{:?}", health(host, &[]));
    }
    let rejoined = one.verb(BERGEN, &["rejoin", "tromso"]);
    assert_eq!(rejoined.code(), 3, "{rejoined:?}");
    assert!(rejoined.stderr.contains("tromso never leads"), "{rejoined:?}");
    // What the hint says brings it back.
    fs::remove_file(hosts.tree(TROMSO).join(".speil/role")).unwrap();
    hosts.verb(TROMSO, &["demote"]).succeeded();
    hosts.environment.run(["retry", &hosts.control(OSLO)]).succeeded();
    eventually("tromso follows again", || hosts.follows(TROMSO, 1) && hosts.read(TROMSO, "upload").is_some());
    // And the other one that may lead takes over.
    hosts.wait(OSLO);
    one.verb(OSLO, &["demote"]).succeeded();
    one.verb(BERGEN, &["promote"]).succeeded();
    eventually("all follow", || hosts.follows(OSLO, 2) && hosts.follows(TROMSO, 2));
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}
