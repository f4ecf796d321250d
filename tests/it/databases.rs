//! `contrib/mysql/`, `contrib/pacemaker/` and `contrib/patroni/`: the database and the tree change their roles together, in whatever moment
//! a step is killed. The client of the database is a script that keeps a server's state in files and knows its words;
//! `make failover-mysql` has the real MariaDB.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::command::{Environment, SPEIL};
use crate::support::stand::scratch;

const MARIADB: &str = "10.11.19-MariaDB-log";
const OLD: &str = "8.0.22";
const NEW: &str = "8.4.3";

/// What a server does with the statements of speil-mysql; `words` is what it does not know.
const CLIENT: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
text=$(cat)
echo "$text" >>asked
# The one who asks is killed before or after the statement is carried out.
count=$(($(cat count 2>/dev/null || echo 0) + 1)); echo $count >count
end() {
    [ "$count/$1" = "$(cat kill 2>/dev/null)" ] || return 0
    process=$$ found=
    while :; do
        process=$(sed -n 's/^PPid:\t//p' /proc/$process/status)
        case $(tr '\0' ' ' </proc/$process/cmdline) in
        *speil-mysql*|*/hooks/*) found=$process ;; timeout*) ;; *) break ;;
        esac
    done
    kill -KILL "$found"; exit 1
}
end before
case " $* " in
*" --host="*)
    case $text in *"SELECT @@global.read_only"*) cat peer ;; *"read_only = 1"*) echo 1 >peer ;; *) echo 0-1-5 ;; esac
    end after
    exit 0 ;;
esac
if grep -qE "$(cat unknown)" asked; then echo "ERROR 1064: syntax"; exit 1; fi
case $text in
*VERSION*) cat version ;;
SHOW*STATUS*) cat state ;;
*@@global.read_only*) cat read_only ;;
*COUNT*) echo 0 ;;
esac
case $text in
*"read_only = 1"*) echo 1 >read_only ;;
*"read_only = 0"*) grep -q '_Pos: 900' state && { echo "opened too early" >>wrong; }; echo 0 >read_only ;;
esac
case $text in
*"IO_THREAD; START"*) sed -i 's/IO_Running: .*/IO_Running: No/; s/SQL_Running: .*/SQL_Running: Yes/' state ;;
*RESET*ALL*) : >state ;;
*CHANGE*) sed 's/_Running: .*/_Running: Yes/' kept >state ;;
*START*) sed -i 's/_Running: .*/_Running: Yes/' state ;;
STOP*) sed -i 's/_Running: .*/_Running: No/' state ;;
esac
end after
exit 0
"#;

/// What `SHOW SLAVE STATUS\G` says of a replica that has applied `applied` of what it received, which ends at 1000.
fn replica(version: &str, applied: u32) -> String {
    let (slave, master) = if version == NEW { ("Replica", "Source") } else { ("Slave", "Master") };
    format!(
        " {master}_Host: oslo\n {master}_Log_File: log.000002\n Read_{master}_Log_Pos: 1000\n \
         Relay_{master}_Log_File: log.000002\n {slave}_IO_Running: Connecting\n {slave}_SQL_Running: Yes\n \
         Exec_{master}_Log_Pos: {applied}\n Last_IO_Errno: 2003\n Last_SQL_Errno: 0\n \
         {slave}_SQL_Running_State: Reading event from the relay log\n"
    )
}

/// A host with a tree, a database and the scripts.
struct Host {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Host {
    fn new(version: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("speil-mysql").tempdir_in(scratch()).unwrap();
        let host = Self { dir, environment: Environment::new() };
        for name in ["run", "hooks", "uploads"] {
            fs::create_dir(host.path(name)).unwrap();
        }
        host.program("client", CLIENT);
        let unknown = match version {
            MARIADB => "REPLICA STATUS|REPLICATION SOURCE|SOURCE_|super_read_only|AUTO_POSITION",
            OLD => "REPLICA |REPLICATION SOURCE|SOURCE_|USE_GTID|gtid_slave_pos",
            _ => "SLAVE|MASTER|USE_GTID|gtid_slave_pos",
        };
        for (name, text) in [("version", version), ("unknown", unknown), ("read_only", "1"), ("peer", "0")] {
            host.write(name, &format!("{text}\n"));
        }
        host.write("kept", &replica(version, 1000));
        host.write("state", &replica(version, 1000));
        let client = host.path("client").display().to_string();
        host.write(
            "conf",
            &format!("client='{client}' hosts='oslo' user=repl password=secret wait=1 drain=1 answer=1\n"),
        );
        host.verb(&["promote", "--force"]);
        host.verb(&["demote"]);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default().trim_end().to_owned()
    }

    fn verb(&self, words: &[&str]) {
        let root = self.path("uploads").display().to_string();
        self.environment.run(words.iter().copied().chain(["--root", &root])).succeeded();
    }

    fn role(&self) -> String {
        let text = self.read("uploads/.speil/role");
        text.lines().find_map(|line| line.strip_prefix("role ")).unwrap_or("none").to_owned()
    }

    fn call(&self, program: &Path, words: &[&str]) -> (i32, String) {
        let mut command = self.environment.command(program);
        command.args(words).env("SPEIL", SPEIL).env("SPEIL_NOTIFY_RUN", self.path("run"));
        command.env("SPEIL_MYSQL_CONF", self.path("conf")).env("SPEIL_NOTIFY_HOOKS", self.path("hooks"));
        command.env("SPEIL_NOTIFY_SETTLE", "0").env("SPEIL_PATRONI_NO_SUDO", "1");
        command.env("SPEIL_NOTIFY", contrib("keepalived/speil-notify"));
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    fn mysql(&self, verb: &str) -> (i32, String) {
        let root = self.path("uploads").display().to_string();
        self.call(&contrib("mysql/speil-mysql"), &[verb, &root])
    }

    /// Calls speil-notify, as keepalived does, with the database's hooks.
    fn notify(&self, state: &str) -> (i32, String) {
        for name in ["promote", "demote"] {
            let link = self.path("hooks").join(name);
            let _ = std::os::unix::fs::symlink(contrib("mysql/speil-mysql"), link);
        }
        let root = self.path("uploads").display().to_string();
        self.call(&contrib("keepalived/speil-notify"), &[&root, "INSTANCE", "uploads", state, "100"])
    }

    /// Whether it takes writes, and follows somebody.
    fn database(&self) -> (bool, bool) {
        (self.read("read_only") == "0", !self.read("state").is_empty())
    }
}

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

#[test]
fn the_database_follows_the_role_in_the_words_of_each_server() {
    for version in [MARIADB, OLD, NEW] {
        let host = Host::new(version);
        for _ in 0..2 {
            let (code, said) = host.notify("MASTER");
            assert_eq!(
                (code, host.role().as_str(), host.database()),
                (0, "primary", (true, false)),
                "{version}: {said}"
            );
            assert_eq!(host.mysql("check").0, 0, "{version}");
            // Another one leads meanwhile, and does not stop by itself: two must not take writes.
            host.write("peer", "0\n");
            let (code, said) = host.notify("BACKUP");
            assert_eq!(
                (code, host.role().as_str(), host.database()),
                (0, "standby", (false, true)),
                "{version}: {said}"
            );
            assert_eq!(host.mysql("check").0, 0, "{version}");
        }
        assert_eq!(host.notify("MASTER").0, 0);
        assert_eq!(host.read("peer"), "1", "the one that led before is closed");
        assert_eq!(host.read("asked").contains("super_read_only = 1"), version != MARIADB);
    }
}

#[test]
fn a_promotion_or_demotion_that_is_killed_at_any_statement_is_made_whole_by_the_next_run() {
    let host = Host::new(MARIADB);
    // The tree has never led: the database alone knows that its promotion had begun.
    fs::remove_dir_all(host.path("uploads/.speil")).unwrap();
    host.verb(&["demote"]);
    let mut steps = 0;
    for verb in ["promote", "demote"] {
        for moment in ["before", "after"] {
            for step in 1.. {
                host.write("read_only", if verb == "promote" { "1\n" } else { "0\n" });
                host.write("state", &if verb == "promote" { replica(MARIADB, 1000) } else { String::new() });
                host.write("count", "0");
                host.write("peer", "0\n");
                host.write("kill", &format!("{step}/{moment}\n"));
                let (code, said) = host.mysql(verb);
                let whole = (verb == "promote", verb == "demote");
                if code != -1 {
                    assert_eq!((code, host.database()), (0, whole), "{verb} {step}: {said}");
                    break;
                }
                steps += 1;
                fs::remove_file(host.path("kill")).unwrap();
                let (code, said) = host.mysql(verb);
                assert_eq!((code, host.database()), (0, whole), "{verb} {moment} {step}: {said}");
            }
        }
    }
    assert!(steps > 20, "{steps}");
    assert_eq!(host.read("wrong"), "");
}

#[test]
fn a_replica_that_is_behind_is_not_promoted_and_says_how_far_and_the_tree_stays_as_it_is() {
    let host = Host::new(MARIADB);
    host.write("state", &replica(MARIADB, 900));
    let (code, said) = host.notify("MASTER");
    assert!(code == 1 && said.contains("100 bytes of the log received and not applied"), "{said}");
    assert_eq!((host.role().as_str(), host.database()), ("standby", (false, true)));
    let (code, said) = host.mysql("check");
    assert!(code == 30 && said.contains("a promotion was refused"), "{said}");
    // It has applied the rest.
    host.write("state", &replica(MARIADB, 1000));
    assert_eq!(host.mysql("check").0, 0);
    assert_eq!(host.read("wrong"), "");
    host.write("state", &replica(MARIADB, 900));
    host.write("conf", &(host.read("conf") + " behind=go\n"));
    let (code, said) = host.notify("MASTER");
    assert!(code == 0 && said.contains("This is lost"), "{said}");
    assert_eq!((host.role().as_str(), host.database()), ("primary", (true, false)));
}

#[test]
fn what_cannot_be_promoted_is_refused_before_anything_is_changed() {
    let host = Host::new(MARIADB);
    let cannot =
        replica(MARIADB, 1000).replace("SQL_Errno: 0", "SQL_Errno: 1062\n Last_SQL_Error: Duplicate entry");
    let diverged =
        replica(MARIADB, 1000).replace("IO_Errno: 2003", "IO_Errno: 1236\n Last_IO_Error: not in the log");
    for (state, words) in [(&cannot, "Duplicate entry"), (&diverged, "filled anew")] {
        host.write("state", state);
        for (code, said) in [host.mysql("promote"), host.mysql("check")] {
            assert!([3, 30].contains(&code) && said.contains(words), "{code} {said}");
        }
        assert_eq!(host.database(), (false, true));
    }
    // A new tree joins that has led nowhere: its database knows nothing.
    fs::remove_dir_all(host.path("uploads/.speil")).unwrap();
    host.verb(&["demote"]);
    host.write("state", "");
    let (code, said) = host.mysql("promote");
    assert!(code == 3 && said.contains("follows nobody"), "{said}");
    // A tree that is refused takes its database along.
    host.write("state", &replica(MARIADB, 1000));
    assert_eq!(host.notify("MASTER").0, 1);
    assert_eq!(host.database(), (false, true));
    host.write("unknown", ".\n");
    assert_eq!(host.mysql("promote").0, 10);
}

#[test]
fn a_database_takes_no_writes_where_the_tree_does_not_lead() {
    let host = Host::new(MARIADB);
    host.write("read_only", "0\n");
    host.write("state", "");
    // A notification is under way: it decides.
    fs::write(host.path("run/speil-uploads.lock"), "").unwrap();
    let lock = fs::File::open(host.path("run/speil-uploads.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!((host.mysql("check").0, host.database()), (0, (true, false)));
    drop(lock);
    let (code, said) = host.mysql("check");
    assert!(code == 0 && said.contains("does not lead"), "{said}");
    assert_eq!(host.database(), (false, true));
    // The server was started again where the tree leads.
    host.verb(&["promote", "--force"]);
    host.write("state", "");
    let (code, said) = host.mysql("check");
    assert_eq!((code, host.database()), (0, (true, false)), "{said}");
}

/// What Pacemaker's own functions give to an agent.
const FUNCTIONS: &str =
    "OCF_SUCCESS=0 OCF_ERR_GENERIC=1 OCF_ERR_UNIMPLEMENTED=3 OCF_ERR_INSTALLED=5 OCF_ERR_CONFIGURED=6
OCF_NOT_RUNNING=7 OCF_RUNNING_PROMOTED=8 OCF_FAILED_PROMOTED=9 HA_RSCTMP=$RUN HA_SBIN_DIR=/nowhere
ocf_log() { :; }
ocf_exit_reason() { echo \"$*\" >&2; }
ocf_promotion_score() { echo \"$*\" >>\"$RUN/score\"; }
";

#[test]
fn the_resource_agent_ends_as_pacemaker_expects_and_scores_only_a_tree_that_may_lead() {
    let host = Host::new(MARIADB);
    host.write("ocf-shellfuncs", FUNCTIONS);
    let root = host.path("uploads").display().to_string();
    let agent = |action: &str| {
        let mut command = host.environment.command(contrib("pacemaker/speil"));
        command.arg(action).env("OCF_FUNCTIONS_DIR", host.dir.path()).env("RUN", host.path("run"));
        command
            .env("OCF_RESKEY_root", &root)
            .env("OCF_RESKEY_speil", SPEIL)
            .env("OCF_RESOURCE_INSTANCE", "uploads:0");
        command.env("OCF_RESKEY_drain", "1s");
        command.output().unwrap().status.code().unwrap_or(-1)
    };
    let score = || host.read("run/score").lines().last().unwrap_or_default().to_owned();
    let all: &[(&str, i32, &str)] = &[
        ("meta-data", 0, "standby"),
        ("validate-all", 0, "standby"),
        ("monitor", 7, "standby"),
        ("promote", 7, "standby"),
        ("stop", 0, "standby"),
        ("start", 0, "standby"),
        ("monitor", 0, "standby"),
        ("promote", 0, "primary"),
        ("promote", 0, "primary"),
        ("start", 0, "primary"),
        ("monitor", 8, "primary"),
        ("demote", 0, "standby"),
        ("monitor", 0, "standby"),
        ("promote", 0, "primary"),
        ("stop", 0, "standby"),
        ("stop", 0, "standby"),
        ("monitor", 7, "standby"),
        ("unknown", 3, "standby"),
    ];
    for (at, (action, code, role)) in all.iter().enumerate() {
        assert_eq!((agent(action), host.role().as_str()), (*code, *role), "{at} {action}");
    }
    assert_eq!(agent("start"), 0);
    assert_eq!(score(), "-v 100", "it led last");
    // Nobody has answered since the boot.
    fs::remove_file(host.path("uploads/.speil/confirmed")).unwrap();
    assert_eq!((agent("monitor"), score().as_str()), (0, "-D"));
    assert_eq!((agent("promote"), host.role().as_str()), (1, "standby"));
    // The volume is away.
    assert_eq!(agent("stop"), 0);
    fs::remove_dir_all(host.path("uploads/.speil")).unwrap();
    assert_eq!((agent("start"), agent("monitor"), agent("stop")), (5, 7, 0));
    assert!(!host.path("uploads/.speil").exists());
}

#[test]
fn patronis_words_are_understood_and_a_tree_that_is_refused_is_told_before() {
    let host = Host::new(MARIADB);
    let root = host.path("uploads").display().to_string();
    let call = |words: &[&str]| {
        let words: Vec<&str> = [root.as_str()].iter().chain(words).copied().collect();
        host.call(&contrib("patroni/speil-patroni"), &words)
    };
    for (words, role) in [
        (["on_role_change", "master", "uploads"], "primary"),
        (["on_role_change", "replica", "uploads"], "standby"),
        (["on_role_change", "primary", "my cluster"], "primary"),
        (["on_reload", "replica", "uploads"], "primary"),
        (["on_stop", "primary", "uploads"], "standby"),
        (["on_start", "primary", "uploads"], "primary"),
        (["on_role_change", "standby_leader", "uploads"], "standby"),
    ] {
        let (code, said) = call(&words);
        assert_eq!((code, host.role().as_str()), (0, role), "{words:?}: {said}");
    }
    assert_eq!(call(&["pre_promote"]).0, 0);
    assert_eq!(host.role(), "standby", "it is asked only");
    fs::remove_dir_all(host.path("uploads/.speil")).unwrap();
    host.verb(&["demote"]);
    assert_eq!(call(&["pre_promote"]).0, 3);
    for words in [&["on_role_change", "master"][..], &[], &["unknown", "master", "uploads"]] {
        assert_eq!(call(words).0, 1, "{words:?}");
    }
}
