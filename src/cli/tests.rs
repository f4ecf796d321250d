//! The command line as a whole.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::parse::{parse_with, top};
use super::refused::refusal;
use super::table::groups;
use super::*;
use crate::config::{AgentSource, Compress, DeleteMode, Durability, Listed, MaxDelete, Sync, Target, Verify};
use crate::status::Quorum;
use crate::tree::Mask;

mod itemize_against_rsync;
mod spellings;

/// Returns rules as text.
fn texts(rules: &[Vec<u8>]) -> Vec<&str> {
    rules.iter().map(|rule| std::str::from_utf8(rule).unwrap()).collect()
}

fn parsed(args: &[&str]) -> Result<Command, CliError> {
    let args: Vec<OsString> = ["speil"].iter().chain(args).map(OsString::from).collect();
    parse_with(&args, None)
}

fn transfer(args: &[&str]) -> Transfer {
    match parsed(args) {
        Ok(Command::Sync(transfer) | Command::Mirror(transfer)) => *transfer,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// `speil sync OPTIONS /s/ h:/t`.
fn with(options: &[&str]) -> Transfer {
    transfer(&[&["sync"], options, &["/s/", "h:/t"]].concat())
}

fn refused(args: &[&str]) -> String {
    match parsed(args) {
        Err(error) => {
            assert_eq!(error.exit(), Exit::Syntax, "{error}");
            let text = error.to_string();
            assert_eq!(text.lines().count(), 1, "{text:?}");
            text
        }
        Ok(command) => panic!("{args:?}: {command:?}"),
    }
}

fn refused_with(options: &[&str]) -> String {
    refused(&[&["sync", "-a"], options, &["/s/", "h:/t"]].concat())
}

/// What `-a` keeps.
fn archive() -> Mask {
    Mask { hard_links: false, acls: false, xattrs: false, privileged_xattrs: false, ..Mask::everything() }
}

#[test]
fn clap_finds_no_fault_in_the_definitions() {
    top().debug_assert();
}

#[test]
fn cron_line_parses_to_exactly_this_sync() {
    let transfer = transfer(&[
        "sync",
        "-avz",
        "--delete",
        "-e",
        "ssh -i /etc/speil/id_rsa_backup",
        "/var/www/html/uploads/",
        "root@10.0.0.2:/var/www/html/uploads/",
    ]);
    let target = Target {
        host: Some("root@10.0.0.2".into()),
        path: b"/var/www/html/uploads".to_vec(),
        name: "10.0.0.2".into(),
        makes: 1,
        may_lead: true,
        lands: None,
    };
    let mut expected = Sync::new("uploads", "/var/www/html/uploads/", vec![target]);
    expected.mask = archive();
    expected.delete = DeleteMode::Always;
    expected.reconcile.interval = None;
    expected.compress = Compress::Always;
    expected.ssh.command = Some(["ssh", "-i", "/etc/speil/id_rsa_backup"].map(String::from).to_vec());
    assert_eq!(transfer.sync, expected);
    assert_eq!(transfer.output, Output { verbose: 1, ..Output::default() });
    assert_eq!(transfer.lock, Lock::default());
    assert!(!transfer.dry_run && transfer.notes.is_empty());
}

#[test]
fn mirror_keeps_everything_and_deletes_without_being_asked() {
    let mirror = transfer(&["mirror", "/srv/www/", "web2:/srv/www", "/mnt/copy"]);
    let mut expected = Sync::new("www", "/srv/www/", mirror.sync.targets.clone());
    expected.compress = Compress::Auto;
    assert_eq!(mirror.sync, expected);
    assert_eq!(mirror.sync.targets.len(), 2);
    let taken_back = transfer(&["mirror", "--no-o", "--no-H", "--no-delete", "/srv/www/", "web2:/srv/www"]);
    assert!(!taken_back.sync.mask.owner && !taken_back.sync.mask.hard_links && taken_back.sync.mask.group);
    assert_eq!(taken_back.sync.delete, DeleteMode::Never);
}

#[test]
fn property_options_set_the_mask() {
    let none = Mask { dir_times: true, link_times: true, ..Mask::nothing() };
    for (options, mask) in [
        (vec!["-r"], none),
        (vec!["-a"], archive()),
        (vec!["-aHAX"], Mask::everything()),
        (vec!["-rp"], Mask { perms: true, ..none }),
        (vec!["-rA"], Mask { perms: true, acls: true, ..none }),
        (vec!["-rX"], Mask { xattrs: true, privileged_xattrs: true, ..none }),
        (vec!["-rD"], Mask { devices: true, specials: true, ..none }),
        (vec!["-a", "--no-D"], Mask { devices: false, specials: false, ..archive() }),
        (
            vec!["-a", "--no-perms", "--no-o", "--no-group"],
            Mask { perms: false, owner: false, group: false, ..archive() },
        ),
        (vec!["--no-o", "-a"], archive()),
        (vec!["-a", "--no-o", "-o"], archive()),
        (vec!["-aOJ"], Mask { dir_times: false, link_times: false, ..archive() }),
        (vec!["-ac"], Mask { checksum: true, ..archive() }),
        (vec!["-r", "--chown=www:"], Mask { owner: true, ..none }),
        (vec!["-r", "--chown=:www"], Mask { group: true, ..none }),
    ] {
        assert_eq!(with(&options).sync.mask, mask, "{options:?}");
    }
}

type Holds = fn(&Transfer) -> bool;

/// Each row: options after `-a`, and what must hold then.
fn check_table(table: &[(&[&str], Holds)]) {
    for (options, check) in table {
        let options = [&["-a"], *options].concat();
        assert!(check(&with(&options)), "{options:?}");
    }
}

#[test]
fn options_of_what_takes_part_reach_their_fields() {
    check_table(&[
        (&["-u"], |t| t.sync.selection.update),
        (&["-x"], |t| t.sync.selection.one_file_system),
        (&["-W"], |t| t.sync.selection.whole_file),
        (&["-W", "--no-W"], |t| !t.sync.selection.whole_file),
        (&["-S"], |t| t.sync.selection.sparse),
        (&["-I"], |t| t.sync.selection.ignore_times),
        (&["--size-only"], |t| t.sync.selection.size_only),
        (&["--existing"], |t| t.sync.selection.existing),
        (&["--ignore-non-existing"], |t| t.sync.selection.existing),
        (&["--ignore-existing"], |t| t.sync.selection.ignore_existing),
        (&["--numeric-ids"], |t| t.sync.selection.numeric_ids),
        (&["--modify-window=2"], |t| t.sync.selection.modify_window == Duration::from_secs(2)),
        (&["-@-1"], |t| t.sync.selection.modify_window == Duration::ZERO),
        (&["--modify-window", "-1"], |t| t.sync.selection.modify_window == Duration::ZERO),
        (&["--chmod=Du+rwx,F644", "--chmod", "go-w"], |t| {
            t.sync.selection.chmod == ["Du+rwx", "F644", "go-w"]
        }),
        (&["--chown=www:www"], |t| t.sync.selection.chown.as_deref() == Some("www:www")),
        (&["-c"], |t| t.sync.reconcile.verify == Verify::Checksum),
        (&["--delete-after"], |t| t.sync.delete == DeleteMode::Always),
        (&["--del"], |t| t.sync.delete == DeleteMode::Always),
        (&[], |t| t.sync.delete == DeleteMode::Never),
        (&["--delete-excluded"], |t| t.sync.delete == DeleteMode::Always && t.sync.guard.delete_excluded),
        (&["--delete", "--max-delete=-1"], |t| t.sync.guard.max_delete == MaxDelete::Count(0)),
        (&["--max-delete", "7"], |t| t.sync.guard.max_delete == MaxDelete::Count(7)),
        (&["--no-delete-guard"], |t| !t.sync.guard.enabled),
    ]);
}

#[test]
fn options_of_sending_and_telling_reach_their_fields() {
    check_table(&[
        (&["-z"], |t| t.sync.compress == Compress::Always),
        (&["-z", "--no-z"], |t| t.sync.compress == Compress::Never),
        (&["--compress"], |t| t.sync.compress == Compress::Always),
        (&["-z", "--compress=auto"], |t| t.sync.compress == Compress::Auto),
        (&["--bwlimit=1m"], |t| t.sync.bwlimit == Some(1 << 20)),
        (&["--connections=16"], |t| t.sync.connections == 16),
        (&["--bwlimit=1m", "--no-bwlimit"], |t| t.sync.bwlimit.is_none()),
        (&["--bwlimit=1m", "--bwlimit=2m"], |t| t.sync.bwlimit == Some(2 << 20)),
        (&["--timeout=5"], |t| t.sync.timeout == Duration::from_secs(5)),
        (&["--fsync"], |t| t.sync.durability == Durability::File),
        (&["--durability", "none"], |t| t.sync.durability == Durability::None),
        (&["--force-root"], |t| t.sync.force_root),
        (&["--port=2222"], |t| t.sync.ssh.port == Some(2222)),
        (&["--agent=deploy"], |t| t.sync.agent == AgentSource::Deploy),
        (&["-n"], |t| t.dry_run),
        (&["-vvv"], |t| t.output.verbose == 3),
        (&["-vv", "--no-v"], |t| t.output.verbose == 0),
        (&["-q"], |t| t.output.quiet),
        (&["-ii"], |t| t.output.itemize == 2),
        (&["-h"], |t| t.output.numbers == Numbers::Thousand),
        (&["-hh"], |t| t.output.numbers == Numbers::Binary),
        (&["--no-h"], |t| t.output.numbers == Numbers::Plain),
        (&["--stats"], |t| t.output.table()),
        (&["--progress"], |t| t.output.progress == Progress::Lines),
        (&["-v", "--info=progress2,stats2,name0,flist0"], |t| {
            t.output.progress == Progress::Lines && t.output.table() && t.output.line_format().is_none()
        }),
        (&["-v", "--info=name0"], |t| t.output.closing_lines()),
        (&["--info=stats1,name"], |t| t.output.closing_lines() && !t.output.table()),
        (&["--info=name"], |t| t.output.line_format() == Some(Format::names())),
        (&["-P"], |t| t.partial && t.output.progress == Progress::Lines),
        (&["--out-format=%n"], |t| t.output.line_format() == Format::parse("%n").ok()),
        (&["-i"], |t| t.output.line_format() == Some(Format::itemized())),
        (&["--log-file", "/l"], |t| t.output.log_file == Some(PathBuf::from("/l"))),
        (&["-8"], |t| t.output.eight_bit),
        (&["--json"], |t| t.output.json),
        (&["--lock-max-age=2h"], |t| t.lock.max_age == Some(Duration::from_secs(7200))),
        (&["--wait-lock=30"], |t| t.lock.wait == Some(Duration::from_secs(30))),
        (&["-s", "--no-i-r", "--protect-args", "--no-inplace"], |t| t.notes.is_empty()),
        (&["-aauvv", "-a"], |t| t.output.verbose == 2),
    ]);
}

#[test]
fn options_of_live_mirrors_reach_their_fields() {
    let live = transfer(&[
        "mirror",
        "--delay=50ms",
        "--max-delay=5s",
        "--reconcile-interval=off",
        "--control=/run/s",
        "/s/",
        "h:/t",
    ]);
    assert_eq!((live.sync.delay, live.sync.max_delay), (Duration::from_millis(50), Duration::from_secs(5)));
    assert_eq!((live.sync.reconcile.interval, live.control), (None, Some(PathBuf::from("/run/s"))));
}

#[test]
fn options_may_follow_the_paths_and_end_at_two_dashes() {
    let late = transfer(&["sync", "/s/", "-a", "h:/t", "--delete"]);
    assert_eq!((late.sync.delete, late.sync.targets.len()), (DeleteMode::Always, 1));
    let dashed = transfer(&["sync", "-a", "--", "-s/", "h:/t"]);
    assert_eq!(dashed.sync.source, PathBuf::from("-s/"));
}

#[test]
fn filters_keep_the_order_of_the_command_line() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"# comment\n*.bak\n+ keep.bak\n").unwrap();
    let from = file.path().to_str().unwrap();
    let filters = with(&[
        "-a",
        "--include=*.jpg",
        "--exclude-from",
        from,
        "-f",
        "P .well-known",
        "--exclude=-x",
        "--include-from",
        from,
        "--exclude",
        "*",
    ])
    .sync
    .filters;
    assert_eq!(
        texts(&filters),
        ["+ *.jpg", "- *.bak", "+ keep.bak", "P .well-known", "- -x", "+ *.bak", "+ keep.bak", "- *"]
    );
    assert_eq!(texts(&with(&["-a", "--exclude=a", "--exclude=!", "--exclude=b"]).sync.filters), ["- b"]);
}

#[test]
fn files_from_lists_paths_and_turns_recursion_off() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"a/b\n/c\n").unwrap();
    let from = format!("--files-from={}", file.path().display());
    let listed = transfer(&["sync", "-a", &from, "/s/www", "h:/t"]);
    let path = |path: &str| Listed { path: path.try_into().unwrap(), level: false };
    assert_eq!(listed.sync.selection.files_from, Some(vec![path("a/b"), path("c")]));
    assert!(!listed.sync.selection.recursive);
    assert_eq!(listed.sync.targets[0].path, b"/t", "the paths count from the source");
    let live = transfer(&["mirror", &from, "/s/www", "h:/t"]);
    assert!(live.sync.selection.recursive && live.sync.delete == DeleteMode::Always);
    assert!(refused(&["sync", "-a", "--delete", &from, "/s", "h:/t"]).contains("--delete needs -r"));
    assert!(transfer(&["sync", "-ar", &from, "/s/www", "h:/t"]).sync.selection.recursive);
}

#[test]
fn list_that_cannot_be_read_ends_with_rsyncs_code() {
    for (option, exit) in
        [("--exclude-from=/nonexistent/x", Exit::File), ("--files-from=/nonexistent/x", Exit::Syntax)]
    {
        let error = parsed(&["sync", "-a", option, "/s/", "h:/t"]).unwrap_err();
        assert_eq!(error.exit(), exit, "{error}");
    }
    assert!(refused_with(&["--files-from=h:list"]).contains("another host"));
}

#[test]
fn source_without_slash_becomes_a_directory_below_each_target() {
    let carried = transfer(&["sync", "-a", "--exclude=/www/cache", "/srv/www", "h:/t/", "g:"]);
    let paths: Vec<&[u8]> = carried.sync.targets.iter().map(|target| target.path.as_slice()).collect();
    assert_eq!(paths, [b"/t/www".as_slice(), b"www"]);
    assert_eq!(texts(&carried.sync.filters), ["- /cache"]);
    assert!(refused(&["sync", "-a", "--exclude=/w*", "/srv/www", "h:/t"]).contains("trailing slash"));
}

#[test]
fn targets_of_one_name_are_told_apart_and_equal_ones_refused() {
    let two = transfer(&["mirror", "/s/", "h:/a", "root@h:/b", "/c"]);
    let names: Vec<&str> = two.sync.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["h:/a", "h:/b", "c"]);
    assert!(refused(&["mirror", "/s/", "h:/a", "h:/a/"]).contains("given twice"));
}

#[test]
fn the_last_word_is_the_target_but_for_one_source_that_goes_to_several_hosts() {
    for words in
        [&["a", "b", "host:/x"][..], &["a", "b", "c"], &["h:a", ":b", "c"], &["h:/s/", "h:/r/", "/t"]]
    {
        let sync = transfer(&[&["sync", "-a"], words].concat()).sync;
        assert_eq!((sync.sources.unwrap().words.len(), sync.targets.len()), (2, 1), "{words:?}");
    }
    assert_eq!(transfer(&["sync", "-a", "/s/", "g:/x", "h:/x"]).sync.targets.len(), 2);
    assert!(refused(&["sync", "-a", "a", "h:b", "c"]).contains("on another host than SOURCE"));
    assert!(refused(&["sync", "-a", "h:a", "g:b", "c"]).contains("on another host than SOURCE"));
}

#[test]
fn sources_that_cannot_be_are_refused_clearly() {
    assert!(refused(&["mirror", "h:/s/", "/t", "/u"]).contains("several TARGETs"));
    assert!(refused(&["mirror", "h:/s/", "i:/t"]).contains("both on other hosts"));
    assert!(refused(&["mirror", "--watch=notify", "h:/s/", "/t"]).contains("--watch=notify"));
    assert!(refused(&["sync", "-a", "h:/s/", "i:/t"]).contains("both on other hosts"));
    assert!(refused(&["sync", "-a", "--connections=2", "h:/s/", "/t"]).contains("--connections"));
    assert!(refused(&["sync", "-a", "/s/", "h::mod"]).contains("rsync daemon"));
    assert!(refused(&["sync", "-a", "--", "/s/", "-oProxyCommand=x:/t"]).contains("begins with \"-\""));
    assert!(refused(&["sync", "-a", "", "/t"]).contains("SOURCE is empty"));
    assert!(refused(&["sync", "-t", "/s/", "/t"]).contains("-a nor -r"));
    assert!(refused(&["mirror", "/s/"]).contains("missing TARGET"));
}

#[test]
fn remote_shell_is_taken_from_the_option_then_from_the_environment() {
    let args: Vec<OsString> = ["speil", "sync", "-a", "/s/", "h:/t"].map(OsString::from).to_vec();
    let Ok(Command::Sync(from_env)) = parse_with(&args, Some(OsStr::new("ssh -p 2"))) else { panic!() };
    assert_eq!(from_env.sync.ssh.command, Some(vec!["ssh".into(), "-p".into(), "2".into()]));
    assert_eq!(with(&["-ae", "ssh"]).sync.ssh.command, Some(vec!["ssh".into()]));
    assert!(refused_with(&["-e", "ssh 'x"]).contains("not closed"));
    assert!(refused_with(&["-e", "ssh", "--transport=ssh2"]).contains("exclude each other"));
}

#[test]
fn leading_words_of_rsync_path_go_before_the_agent() {
    let sudo = || vec!["sudo".to_owned()];
    for (options, agent, notes) in [
        (vec!["--rsync-path=sudo rsync"], AgentSource::Prefixed(sudo()), 0),
        (vec!["--rsync-path=sudo /usr/bin/rsync"], AgentSource::Prefixed(sudo()), 0),
        (vec!["--rsync-path=/opt/rsync"], AgentSource::Auto, 1),
        (vec!["--rsync-path=rsync"], AgentSource::Auto, 0),
        (
            vec!["--rsync-path=sudo rsync", "--agent=/opt/speil agent"],
            AgentSource::Command(["sudo", "/opt/speil", "agent"].map(String::from).to_vec()),
            0,
        ),
    ] {
        let transfer = with(&[&["-a"], options.as_slice()].concat());
        assert_eq!((transfer.sync.agent, transfer.notes.len()), (agent, notes), "{options:?}");
    }
    assert!(refused_with(&["--rsync-path=cd /x && rsync"]).contains("need a shell"));
}

#[test]
fn values_that_make_no_sense_are_refused_with_option_and_value() {
    for (option, needle) in [
        ("--connections=17", "--connections \"17\": expected a number from 1 to 16"),
        ("--bwlimit=fast", "--bwlimit \"fast\": expected a rate"),
        ("--timeout=-1", "--timeout \"-1\""),
        ("--max-delete=x", "--max-delete \"x\""),
        ("--chmod=u+q", "\"u+q\" is no mode change"),
        ("--chmod=", "is no mode change"),
        ("--chmod=F99", "is no mode change"),
        ("--chown=a:b:c", "USER:GROUP"),
        ("--info=flist", "\"flist\" is not available"),
        ("--out-format=%C", "%C is not available"),
        ("--durability=disk", "none, batch, file"),
        ("--transport=rsh", "ssh, ssh2"),
        ("--compress=yes", "never, auto, always"),
        ("--port=99999", "whole number"),
        ("--lock-max-age=soon", "duration"),
    ] {
        let text = refused_with(&[option]);
        assert!(text.contains(needle), "{option}: {text}");
    }
    assert!(refused_with(&["--max-delete=3", "--no-delete-guard"]).contains("exclude each other"));
}

#[test]
fn rsync_options_that_speil_lacks_are_refused_by_name() {
    for (options, needle) in [
        (vec!["--inplace"], "rsync's --inplace is not available in speil sync: "),
        (vec!["--partial-dir=/x"], "rsync's --partial-dir is"),
        (vec!["-K"], "rsync's -K is"),
        (vec!["-avK"], "rsync's -K is"),
        (vec!["-xx"], "rsync's -xx is"),
        (vec!["--delete-missing-args"], "rsync's --delete-missing-args is"),
        (vec!["--temp-dir=/x"], "rsync's --temp-dir is"),
        (vec!["--password-file=/x"], "rsync's --password-file is"),
    ] {
        let text = refused_with(&options);
        assert!(text.contains(needle), "{options:?}: {text}");
    }
    assert!(refused(&["mirror", "--append", "/s/", "h:/t"]).contains("speil mirror: "));
    assert!(refused(&["mirror", "-L", "/s/", "h:/t"]).contains("not heard of"));
    assert!(refused_with(&["--bogus"]).contains("unknown option --bogus"));
    assert!(refused_with(&["--delay=1s"]).contains("option of speil mirror"));
    assert!(refused(&["mirror", "--wait-lock=1", "/s/", "h:/t"]).contains("option of speil sync"));
}

#[test]
fn taken_options_are_not_refused_as_well() {
    for option in groups(false).iter().chain(&groups(true)).flat_map(|group| group.options) {
        for name in option.names().iter().filter(|name| !name.starts_with("--no-")) {
            assert!(refusal(name).is_none(), "{name}");
        }
    }
}

#[test]
fn help_and_version_are_text() {
    for (args, needle) in [
        (vec!["--help"], "live on standby hosts"),
        (vec!["sync", "--help"], "Examples:"),
        (vec!["sync", "-h"], "Examples:"),
        (vec!["help", "sync"], "Examples:"),
        (vec!["mirror", "--help"], "--reconcile-interval"),
        (vec!["agent", "--help"], "authorized_keys"),
        (vec!["--version"], env!("CARGO_PKG_VERSION")),
        (vec!["--version", "--verbose"], "openat2"),
    ] {
        match parsed(&args) {
            Ok(Command::Text(text)) => assert!(text.contains(needle), "{args:?}: {text}"),
            other => panic!("{args:?}: {other:?}"),
        }
    }
    assert!(matches!(parsed(&[]), Ok(Command::Usage(text)) if text.contains("live on standby hosts")));
}

#[test]
fn other_commands_take_their_arguments() {
    let control = |path: &str| Control { control: Some(PathBuf::from(path)) };
    let none = Control::default();
    for (args, expected) in [
        (vec!["check", "/c.lua"], Command::Check(Check { config: "/c.lua".into(), diff: false })),
        (
            vec!["status", "--json", "--control", "/s"],
            Command::Status(Status {
                json: true,
                check: false,
                max_lag: Duration::from_secs(10),
                watch: false,
                control: control("/s"),
            }),
        ),
        (
            vec!["wait", "www", "--timeout", "1m", "--targets", "a,b"],
            Command::Wait(Wait {
                sync: Some("www".into()),
                timeout: Some(Duration::from_secs(60)),
                targets: Quorum::Named(vec!["a".into(), "b".into()]),
                despite_problems: false,
                control: none.clone(),
            }),
        ),
        (vec!["reconcile"], Command::Reconcile(Reconcile { sync: None, control: none.clone() })),
        (
            vec!["pause"],
            Command::Pause(Pause { span: None, named: Named { sync: None, control: none.clone() } }),
        ),
        (vec!["resume", "www"], Command::Resume(Named { sync: Some("www".into()), control: none.clone() })),
        (
            vec!["approve", "www", "web2"],
            Command::Approve(super::commands::Approve {
                volume: false,
                held: HeldOf { sync: Some("www".into()), target: Some("web2".into()), control: none.clone() },
            }),
        ),
        (vec!["discard"], Command::Discard(HeldOf { sync: None, target: None, control: none })),
        (vec!["agent", "--root", "/srv"], Command::Agent(Agent { root: Some("/srv".into()), ..agent() })),
        (
            vec!["agent", "--min-free=5G", "--no-devices", "--no-setid", "--no-chown", "--no-confine"],
            Command::Agent(Agent {
                min_free: Some(5 << 30),
                no_devices: true,
                no_setid: true,
                no_chown: true,
                fold_case: false,
                no_confine: true,
                ..agent()
            }),
        ),
    ] {
        assert_eq!(parsed(&args).unwrap(), expected, "{args:?}");
    }
    let Ok(Command::Run(run)) = parsed(&["run", "-n", "a.lua", "b.lua"]) else { panic!() };
    assert!(run.dry_run && run.configs.len() == 2);
    for args in
        [vec!["run"], vec!["check"], vec!["check", "a", "b"], vec!["wait", "--timeout=x"], vec!["bogus"]]
    {
        refused(&args);
    }
}

#[test]
fn source_that_is_no_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(check_source(file.path()), Err(CliError::SourceNotDirectory(_))));
    let missing = check_source(&file.path().with_extension("gone")).unwrap_err();
    assert_eq!(missing.exit(), Exit::Selection);
    assert!(check_source(&std::env::temp_dir()).is_ok());
}

/// An agent without options.
fn agent() -> Agent {
    Agent {
        send: false,
        filter: Vec::new(),
        exclude: Vec::new(),
        keep_to_filters: false,
        keep_entries: false,
        identify: false,
        root: None,
        min_free: None,
        no_devices: false,
        no_setid: false,
        no_chown: false,
        fold_case: false,
        no_confine: false,
    }
}

#[test]
fn a_source_on_another_host_is_pulled_and_its_name_carried_as_that_of_one_here() {
    for (source, host, path, target, is_named) in [
        ("h:/s/", "h", "/s", "t", false),
        ("u@h:/s", "u@h", "/s", "t/s", true),
        ("h:s", "h", "s", "t/s", true),
        ("h:", "h", ".", "t", false),
        ("h:~", "h", ".", "t", false),
        ("[::1]:/s/d", "::1", "/s/d", "t/d", true),
        ("h:/s/.", "h", "/s/.", "t", false),
    ] {
        let transfer = transfer(&["sync", "-a", source, "t"]);
        let far = transfer.from.unwrap();
        assert_eq!((far.host.as_str(), far.is_named), (host, is_named), "{source}");
        assert_eq!(transfer.sync.source.as_os_str(), path, "{source}");
        assert_eq!(transfer.sync.targets[0].path, target.as_bytes(), "{source}");
    }
    assert!(transfer(&["sync", "-a", "./h:s/", "t"]).from.is_none());
    let listed = transfer(&["sync", "-a", "--files-from=/dev/null", "h:/s", "t"]);
    assert_eq!(listed.sync.targets[0].path, b"t");
}
