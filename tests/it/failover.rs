//! Several hosts keep one tree: whoever leads, dies or comes back, nothing that was uploaded is destroyed.
//!
//! The hosts are trees of this one, each with a daemon of its own whose configuration names the others.

mod apart;
mod handing;
mod hosts;
mod kills;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::command::{
    Background, DEADLINE, Environment, Outcome, agent_command, eventually, holds_within,
};
use crate::support::stand::{differences, scratch, told};
use crate::support::tree::kept_below;

const OSLO: &str = "oslo";
const BERGEN: &str = "bergen";
const TROMSO: &str = "tromso";
const ALL: [&str; 3] = [OSLO, BERGEN, TROMSO];

struct Hosts {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Hosts {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("speil-live").tempdir_in(scratch()).unwrap();
        ALL.iter().for_each(|host| fs::create_dir(dir.path().join(host)).unwrap());
        Self { dir, environment: Environment::new() }
    }

    fn tree(&self, host: &str) -> PathBuf {
        self.dir.path().join(host)
    }

    fn write(&self, host: &str, name: &str, text: &str) {
        fs::write(self.tree(host).join(name), text).unwrap();
    }

    fn read(&self, host: &str, name: &str) -> Option<String> {
        fs::read_to_string(self.tree(host).join(name)).ok()
    }

    fn role(&self, host: &str) -> String {
        self.read(host, ".speil/role").unwrap_or_default()
    }

    /// Whether a host is a standby that is in step with a generation.
    fn follows(&self, host: &str, n: u64) -> bool {
        let role = self.role(host);
        role.contains("role standby")
            && role.contains(&format!("generation {n} "))
            && !role.contains("adopting")
    }

    /// Whether a standby knows that the primary of its generation is none any more.
    fn stepped(&self, standby: &str) -> bool {
        let told = self.read(standby, ".speil/stepped").unwrap_or_default();
        !told.is_empty() && self.role(standby).lines().any(|line| line.ends_with(told.trim_end()))
    }

    /// Whether a standby has written that it is in step with this start of a primary's daemon.
    fn has_seen(&self, standby: &str, primary: &str) -> bool {
        let of = |host, word| {
            let role = self.role(host);
            role.lines().find_map(|line| line.strip_prefix(word).map(str::to_owned))
        };
        of(standby, "seen ").is_some_and(|seen| Some(seen) == of(primary, "running "))
    }

    /// Writes the configuration of a host that mirrors to others once it leads.
    fn config(&self, host: &str, others: &[&str]) -> PathBuf {
        let others = others.iter().filter(|other| **other != host);
        let targets: Vec<String> = others.map(|other| format!("{:?}", self.tree(other))).collect();
        let text = format!(
            "sync {{ default.mirror, name = \"uploads\", source = {:?}, targets = {{ {} }}, agent = {:?}, \
             reconcile = {{ interval = \"never\" }} }}\n",
            self.tree(host),
            targets.join(", "),
            agent_command()
        );
        let config = self.dir.path().join(format!("{host}.lua"));
        fs::write(&config, text).unwrap();
        config
    }

    fn start(&self, host: &str) -> Background {
        self.start_to(host, &ALL)
    }

    /// Starts a daemon with more keys in its configuration.
    fn start_with(&self, host: &str, keys: &str) -> Background {
        let config = self.config(host, &ALL);
        let text = fs::read_to_string(&config).unwrap().replace("name = ", &format!("{keys}, name = "));
        fs::write(&config, text).unwrap();
        self.environment.spawn(["run", &self.control(host), &config.display().to_string()])
    }

    fn start_to(&self, host: &str, others: &[&str]) -> Background {
        let config = self.config(host, others).display().to_string();
        self.environment.spawn(["run", &self.control(host), &config])
    }

    fn control(&self, host: &str) -> String {
        format!("--control={}", self.dir.path().join(format!("{host}.control")).display())
    }

    fn wait(&self, host: &str) {
        self.environment.run(["wait", "--timeout=60s", &self.control(host)]).succeeded();
    }

    fn verb(&self, host: &str, words: &[&str]) -> Outcome {
        let root = self.tree(host).display().to_string();
        let words: Vec<&str> = words.iter().copied().chain(["--root", &root]).collect();
        self.environment.run(words)
    }

    /// What is kept aside on a host, by path.
    fn kept(&self, host: &str) -> BTreeMap<String, Vec<String>> {
        kept_below(&self.tree(host).join(".speil/strangers"))
    }

    fn equal(&self, a: &str, b: &str) -> bool {
        differences(&self.tree(a), &self.tree(b)).is_empty()
    }

    fn assert_equal(&self, a: &str, b: &str) {
        let (a, b) = (self.tree(a), self.tree(b));
        let equal = holds_within(DEADLINE, || differences(&a, &b).is_empty());
        assert!(equal, "{}", told(&differences(&a, &b)));
    }

    /// Whether nothing is kept aside on any host.
    fn nothing_kept(&self) -> bool {
        ALL.iter().all(|host| self.kept(host).is_empty())
    }

    /// Oslo leads, the others have joined and are in step.
    fn set_up(&self) -> [Background; 3] {
        self.verb(BERGEN, &["demote"]).succeeded();
        self.verb(TROMSO, &["demote"]).succeeded();
        self.verb(OSLO, &["promote", "--force"]).succeeded();
        let daemons = ALL.map(|host| self.start(host));
        for host in [BERGEN, TROMSO] {
            eventually("a standby in step", || self.follows(host, 1));
        }
        daemons
    }
}

fn is_below(dir: &Path, text: &str) -> bool {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten();
    files
        .filter(|entry| entry.file_type().is_file())
        .any(|entry| fs::read(entry.path()).is_ok_and(|bytes| bytes == text.as_bytes()))
}

#[test]
fn the_old_primary_comes_back_with_writes_of_its_own_and_nothing_is_lost() {
    let hosts = Hosts::new();
    hosts.write(OSLO, "before", "before all");
    let [oslo, bergen, tromso] = hosts.set_up();
    hosts.write(OSLO, "shared", "first");
    for host in [BERGEN, TROMSO] {
        eventually("an upload", || hosts.read(host, "shared").is_some());
    }
    // The power fails on the primary, with writes that nobody has seen.
    oslo.signal(Signal::KILL);
    drop(oslo);
    hosts.write(OSLO, "unseen", "unseen of oslo");
    hosts.write(OSLO, "shared", "edited on oslo");
    hosts.verb(BERGEN, &["promote"]).succeeded();
    hosts.write(BERGEN, "after", "after of bergen");
    hosts.write(BERGEN, "shared", "edited on bergen, longer");
    bergen.signal(Signal::USR1);
    eventually("the third host follows", || hosts.follows(TROMSO, 2) && hosts.equal(BERGEN, TROMSO));
    // The old primary boots: it hears of the new one, and sends nothing.
    let oslo = hosts.start(OSLO);
    eventually("the old primary knows", || hosts.role(OSLO).contains("known 2 "));
    assert_eq!(hosts.read(BERGEN, "unseen"), None);
    let refused = hosts.verb(OSLO, &["promote"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(refused.stderr.contains("speil demote --root"), "{refused:?}");
    hosts.verb(OSLO, &["demote"]).succeeded();
    bergen.signal(Signal::USR1);
    eventually("the old primary follows", || hosts.follows(OSLO, 2));
    hosts.assert_equal(BERGEN, OSLO);
    let kept = hosts.kept(OSLO);
    assert_eq!(kept["unseen"], ["unseen of oslo"]);
    assert_eq!(kept["shared"], ["edited on oslo"]);
    for upload in ["before all", "after of bergen", "edited on bergen, longer"] {
        assert!(ALL.iter().all(|host| is_below(&hosts.tree(host), upload)), "{upload}");
    }
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn what_only_a_standby_holds_is_kept_aside_also_if_the_agent_wrote_it() {
    let hosts = Hosts::new();
    (0..20).for_each(|at| hosts.write(OSLO, &at.to_string(), "one of many"));
    let [oslo, bergen, tromso] = hosts.set_up();
    oslo.terminate();
    // Bergen does not get this one.
    let oslo = hosts.start_to(OSLO, &[TROMSO]);
    hosts.write(OSLO, "half", "on one standby alone");
    eventually("an upload", || hosts.read(TROMSO, "half").is_some());
    oslo.signal(Signal::KILL);
    drop(oslo);
    hosts.verb(BERGEN, &["promote"]).succeeded();
    bergen.signal(Signal::USR1);
    eventually("a standby follows", || hosts.follows(TROMSO, 2) && hosts.equal(BERGEN, TROMSO));
    assert_eq!(hosts.kept(TROMSO)["half"], ["on one standby alone"]);
    // A primary loses its power, and with it what it had not written to its disk yet.
    for name in ["cached", "old"] {
        hosts.write(BERGEN, name, name);
        eventually("an upload", || hosts.read(TROMSO, name).is_some());
    }
    bergen.signal(Signal::KILL);
    drop(bergen);
    fs::remove_file(hosts.tree(BERGEN).join("cached")).unwrap();
    let bergen = hosts.start_to(BERGEN, &[TROMSO]);
    eventually("the standby is as the primary", || hosts.equal(BERGEN, TROMSO));
    assert_eq!(hosts.kept(TROMSO)["cached"], ["cached"]);
    // One that ends in order has lost nothing: what it lacks later was deleted.
    eventually("the standby has seen this start", || hosts.has_seen(TROMSO, BERGEN));
    // What was changed shortly before this start is the agent's own again once a comparison need not doubt it.
    hosts.wait(BERGEN);
    hosts.environment.run(["reconcile", &hosts.control(BERGEN)]).succeeded();
    hosts.wait(BERGEN);
    bergen.terminate();
    fs::remove_file(hosts.tree(BERGEN).join("old")).unwrap();
    let bergen = hosts.start(BERGEN);
    eventually("a delete", || hosts.read(TROMSO, "old").is_none());
    assert!(!hosts.kept(TROMSO).contains_key("old"));
    for daemon in [bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn a_planned_switch_and_back_loses_nothing_and_sets_nothing_aside() {
    let hosts = Hosts::new();
    let [oslo, bergen, tromso] = hosts.set_up();
    let daemons = BTreeMap::from([(OSLO, &oslo), (BERGEN, &bergen)]);
    for (n, from, to) in [(2, OSLO, BERGEN), (3, BERGEN, OSLO)] {
        for at in 0..20 {
            hosts.write(from, &format!("{from}-{at}"), &format!("{from} {at}"));
        }
        hosts.wait(from);
        hosts.verb(from, &["demote"]).succeeded();
        // What keepalived need not wait for: the primary is not merely silent.
        eventually("the standby hears that its primary has stepped down", || hosts.stepped(to));
        let promoted = hosts.verb(to, &["promote"]).succeeded();
        assert!(promoted.stdout.contains(&format!("generation {n}, a new one")), "{promoted:?}");
        daemons[to].signal(Signal::USR1);
        for standby in ALL.iter().filter(|host| **host != to) {
            eventually("a standby follows", || hosts.follows(standby, n));
            hosts.assert_equal(to, standby);
            assert!(!hosts.tree(standby).join(".speil/stepped").exists(), "{standby} is led again");
        }
    }
    assert!(hosts.nothing_kept());
    assert_eq!(fs::read_dir(hosts.tree(TROMSO)).unwrap().count(), 41);
    // keepalived's restart: nobody has led in between.
    let again = hosts.verb(OSLO, &["promote"]).succeeded();
    assert!(again.stdout.contains("is primary of generation 3 already"), "{again:?}");
    hosts.verb(OSLO, &["demote"]).succeeded();
    let again = hosts.verb(OSLO, &["demote", "--json"]).succeeded();
    assert!(again.stdout.contains("\"done\": \"already\""), "{again:?}");
    let planned = hosts.verb(OSLO, &["promote", "-n"]).succeeded();
    assert!(planned.stdout.contains("would be primary of its own generation 3 again"), "{planned:?}");
    assert!(hosts.role(OSLO).contains("role standby"), "a plan changes nothing");
    hosts.verb(OSLO, &["promote"]).succeeded();
    assert!(hosts.role(OSLO).contains("role primary"));
    for (host, role) in [(OSLO, "primary"), (BERGEN, "standby")] {
        let status = hosts.environment.run(["status", "--json", &hosts.control(host)]).succeeded();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        let sync = &status["syncs"][0];
        assert_eq!((sync["role"].as_str(), sync["generation"].as_u64()), (Some(role), Some(3)), "{sync}");
        if role == "standby" {
            assert_eq!(sync["targets"][0]["state"], "standby", "{sync}");
        }
    }
    hosts.verb(BERGEN, &["health", "--role=standby", "--max-lag=60s"]).succeeded();
    // Who stands by as it should is well, is not waited for, and is no mirror that goes round.
    let checked = hosts.environment.run(["status", "--check", &hosts.control(BERGEN)]).succeeded();
    assert!(checked.stdout.contains("uploads is a standby at generation 3"), "{checked:?}");
    // Who leads is known once its session is there.
    let wait = || hosts.environment.run(["wait", &hosts.control(BERGEN)]);
    eventually("the primary is there", || !wait().stderr.contains("is not connected"));
    let waited = wait();
    assert_eq!(waited.status.code(), Some(12), "{waited:?}");
    assert!(waited.stderr.contains("is a standby at generation 3 and sends nothing"), "{waited:?}");
    assert!(waited.stderr.contains(&hosts.tree(OSLO).display().to_string()), "who leads: {waited:?}");
    let file = hosts.tree(BERGEN).join("oslo-1").display().to_string();
    let explained = hosts.environment.run(["explain", &hosts.control(BERGEN), "uploads", &file]).succeeded();
    assert!(explained.stdout.contains("held on this host, which is a standby"), "{explained:?}");
    let config = hosts.config(BERGEN, &ALL).display().to_string();
    let doctor = hosts.environment.run(["doctor", &config]);
    assert!(doctor.stdout.contains("standby at generation 3"), "{doctor:?}");
    assert!(!doctor.stdout.contains("circle"), "{doctor:?}");
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn who_has_no_role_changes_nothing_in_a_tree_that_has_one_and_may_look() {
    let hosts = Hosts::new();
    hosts.write(OSLO, "upload", "an upload");
    let [oslo, bergen, tromso] = hosts.set_up();
    let plain = hosts.tree("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("other"), "other").unwrap();
    let source = format!("{}/", plain.display());
    let agent = format!("--agent={}", agent_command());
    for (host, says) in
        [(OSLO, "is primary of generation 1"), (BERGEN, "takes changes from its primary alone")]
    {
        let target = hosts.tree(host).display().to_string();
        let refused = hosts.environment.run(["sync", "-a", "--delete", &agent, &source, &target]);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
        let mirror = hosts.environment.spawn(["mirror", "--no-delete-guard", &agent, &source, &target]);
        eventually("the refusal", || mirror.stderr().iter().any(|line| line.contains(says)));
        mirror.terminate();
        hosts.environment.run(["sync", "-an", "--delete", &agent, &source, &target]).succeeded();
        hosts.environment.run(["trash", "--strangers", &agent, &target]).succeeded();
        assert_eq!(hosts.read(host, "upload").as_deref(), Some("an upload"));
        assert_eq!(hosts.read(host, "other"), None);
    }
    // A primary fills no tree that nobody has given to it.
    oslo.terminate();
    let oslo = hosts.start_to(OSLO, &["plain"]);
    eventually("the refusal", || {
        oslo.stderr().iter().any(|line| line.contains("it is new, or its volume is not mounted"))
    });
    assert!(oslo.stderr().iter().any(|line| line.contains("`speil demote --root")), "{:?}", oslo.stderr());
    assert_eq!(fs::read_dir(&plain).unwrap().count(), 1, "nothing was made there");
    // A copy of a tree is no host that may lead.
    let (from, to) = (hosts.tree(BERGEN), hosts.tree("copy"));
    assert!(std::process::Command::new("cp").arg("-a").args([&from, &to]).status().unwrap().success());
    let refused = hosts.verb("copy", &["promote"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(refused.stderr.contains("the tree is a copy of another one"), "{refused:?}");
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
}

#[test]
fn a_host_that_boots_alone_is_promoted_once_another_one_has_answered() {
    let hosts = Hosts::new();
    let [oslo, bergen, tromso] = hosts.set_up();
    for daemon in [oslo, bergen, tromso] {
        daemon.terminate();
    }
    // As after a boot; a primary that boots alone is told what to type, and that helps.
    fs::remove_file(hosts.tree(OSLO).join(".speil/confirmed")).unwrap();
    let health = hosts.verb(OSLO, &["health"]);
    assert_eq!(health.status.code(), Some(30), "{health:?}");
    assert!(health.stderr.contains("`speil promote --force --root"), "{health:?}");
    let already = hosts.verb(OSLO, &["promote"]).succeeded();
    assert!(already.stderr.contains("`speil health` is 30"), "{already:?}");
    hosts.verb(OSLO, &["promote", "--force"]).succeeded();
    hosts.verb(OSLO, &["health"]).succeeded();
    // As after a boot.
    fs::remove_file(hosts.tree(BERGEN).join(".speil/confirmed")).unwrap();
    let refused = hosts.verb(BERGEN, &["promote"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(refused.stderr.contains("no other host has answered since the boot"), "{refused:?}");
    assert!(refused.stderr.contains("`speil promote --force --root"), "{refused:?}");
    assert!(hosts.follows(BERGEN, 1));
    // keepalived hears of a refusal in no other way.
    let health = hosts.verb(BERGEN, &["health"]);
    assert_eq!(health.status.code(), Some(30), "{health:?}");
    assert!(health.stderr.contains("no other host has answered since the boot"), "{health:?}");
    // The others are asked where a configuration names them.
    let config = format!("--config={}", hosts.config(BERGEN, &ALL).display());
    hosts.environment.run(["promote", "uploads", &config]).succeeded();
    assert!(hosts.role(BERGEN).contains("role primary"));
    let health = hosts.verb(BERGEN, &["health", "--role=primary"]).succeeded();
    assert!(health.stdout.contains("primary of generation 2"), "{health:?}");
    assert_eq!(hosts.verb(BERGEN, &["health", "--role=standby"]).status.code(), Some(30));
    // Those that were asked remember nothing yet that came later: the daemon of one that boots asks.
    fs::remove_file(hosts.tree(TROMSO).join(".speil/confirmed")).unwrap();
    let tromso = hosts.start(TROMSO);
    eventually("it has asked", || hosts.role(TROMSO).contains("known 2 "));
    let refused = hosts.verb(TROMSO, &["promote", "--json"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let json: serde_json::Value = serde_json::from_str(&refused.stdout).unwrap();
    assert!(json["error"].as_str().is_some_and(|error| error.contains("knows 2")), "{json}");
    tromso.terminate();
}

#[test]
fn a_mirror_with_targets_takes_up_roles_while_it_runs_and_keeps_what_differs() {
    let hosts = Hosts::new();
    hosts.write(OSLO, "upload", "an upload");
    let oslo = hosts.start_to(OSLO, &[BERGEN]);
    eventually("an upload", || hosts.read(BERGEN, "upload").is_some());
    hosts.wait(OSLO);
    hosts.write(BERGEN, "there", "written there");
    let others = hosts.verb(OSLO, &["promote"]);
    assert_eq!(others.status.code(), Some(3), "{others:?}");
    hosts.verb(OSLO, &["promote", "--force"]).succeeded();
    hosts.wait(OSLO);
    assert!(hosts.follows(BERGEN, 1), "wait ends before the target has written that it is in step");
    hosts.assert_equal(OSLO, BERGEN);
    assert_eq!(hosts.kept(BERGEN)["there"], ["written there"]);
    // Without the roles it is as it was.
    oslo.terminate();
    for host in [OSLO, BERGEN] {
        fs::remove_file(hosts.tree(host).join(".speil/role")).unwrap();
    }
    let oslo = hosts.start_to(OSLO, &[BERGEN]);
    hosts.write(OSLO, "later", "later");
    eventually("an upload", || hosts.read(BERGEN, "later").is_some());
    oslo.terminate();
}

#[test]
fn two_truths_are_told_and_the_one_that_is_chosen_keeps_aside_what_the_other_holds() {
    let hosts = Hosts::new();
    for daemon in hosts.set_up() {
        daemon.terminate();
    }
    // The network is cut: both sides are written to, and somebody forces the standby.
    hosts.verb(BERGEN, &["promote"]).succeeded();
    hosts.verb(TROMSO, &["promote"]).succeeded();
    // Not to Oslo: the hosts of a test have one name, and what a standby tells would end what its namesake told.
    let bergen = hosts.start_to(BERGEN, &[TROMSO]);
    hosts.write(BERGEN, "upload", "of bergen");
    // Of another size: both are written within one tick of the clock, and size and time are what is compared.
    hosts.write(TROMSO, "upload", "of tromso itself");
    hosts.write(TROMSO, "alone", "of tromso alone");
    let tromso = hosts.start_to(TROMSO, &[BERGEN]);
    eventually("it is told", || {
        tromso.stderr().iter().any(|line| line.contains("neither came out of the other"))
    });
    assert_eq!(hosts.read(BERGEN, "alone"), None);
    // Both serve, and say that there are two.
    for host in [BERGEN, TROMSO] {
        let ask = || hosts.verb(host, &["health", "--role=primary"]);
        // Each notes it after it was told.
        eventually("both say so", || ask().stderr.contains("is primary too, of generation 2"));
        let health = ask().succeeded();
        assert!(health.stderr.contains("`speil rejoin --root"), "{health:?}");
    }
    // What the hint names is typed as it is.
    let said = tromso.stderr().join("\n");
    let typed = said.split("`speil ").nth(1).and_then(|rest| rest.split('`').next()).unwrap().to_owned();
    let config = format!("--config={}", hosts.config(BERGEN, &[TROMSO]).display());
    assert!(typed.contains(&hosts.tree(BERGEN).display().to_string()), "{said}");
    let words = typed.split(' ').chain(["-n", &config]);
    let planned = hosts.environment.run(words).succeeded();
    assert!(planned.stdout.contains("would be a standby that waits for "), "{planned:?}");
    assert!(!planned.stdout.contains("that was chosen"), "{planned:?}");
    let config = format!("--config={}", hosts.config(TROMSO, &[BERGEN]).display());
    let planned = hosts.environment.run(["rejoin", "-n", "uploads", &config]).succeeded();
    assert!(planned.stdout.contains("would be a standby that waits"), "{planned:?}");
    let planned = hosts.environment.run(["rejoin", "--plan", "uploads", &config]);
    assert_eq!(planned.status.code(), Some(23), "{planned:?}");
    for said in
        ["2 entries would be kept aside, 31 bytes:", "\n  alone\n", "\n  upload\n", "1 entry would come"]
    {
        assert!(planned.stdout.contains(said), "{planned:?}");
    }
    assert!(hosts.role(TROMSO).contains("role primary"));
    let (agent, there) = (format!("--agent={}", agent_command()), hosts.tree(BERGEN).display().to_string());
    hosts.verb(TROMSO, &["rejoin", &agent, &there]).succeeded();
    bergen.signal(Signal::USR1);
    eventually("it follows", || hosts.follows(TROMSO, 2) && hosts.equal(BERGEN, TROMSO));
    let kept = hosts.kept(TROMSO);
    assert_eq!(
        (&kept["upload"][..], &kept["alone"][..]),
        (&["of tromso itself".to_owned()][..], &["of tromso alone".to_owned()][..])
    );
    assert_eq!(hosts.read(TROMSO, "upload").as_deref(), Some("of bergen"));
    let health = hosts.verb(BERGEN, &["health", "--role=primary"]).succeeded();
    assert_eq!(health.stderr, "", "there is one again");
    // On the wrong host: nothing that makes a second primary is named.
    let there = hosts.tree(TROMSO).display().to_string();
    let refused = hosts.verb(BERGEN, &["rejoin", &agent, &there]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(refused.stderr.contains("this host itself leads generation 2"), "{refused:?}");
    assert!(!refused.stderr.contains("speil promote"), "{refused:?}");
    for daemon in [bergen, tromso] {
        daemon.terminate();
    }
}
