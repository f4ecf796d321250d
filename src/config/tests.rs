//! Claims about whole configuration files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// Returns rules as text.
pub(super) fn texts(rules: &[Vec<u8>]) -> Vec<&str> {
    rules.iter().map(|rule| std::str::from_utf8(rule).unwrap()).collect()
}

/// Writes `files` into a directory of their own and loads those that `named` names.
fn load_files(files: &[(&str, &str)], named: &[&str]) -> Result<Loaded, (String, Option<String>)> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = format!("{}/", dir.path().display());
    let paths: Vec<PathBuf> = named.iter().map(|name| dir.path().join(name)).collect();
    match load_all(&paths) {
        Ok(mut loaded) => {
            for warning in &mut loaded.warnings {
                warning.place.file = warning.place.file.replace(&root, "");
            }
            Ok(loaded)
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            Err((error.to_string().replace(&root, ""), error.hint()))
        }
    }
}

fn load_text(text: &str) -> Result<Loaded, (String, Option<String>)> {
    load_files(&[("app.lua", text)], &["app.lua"])
}

fn config(text: &str) -> Config {
    load_text(text).unwrap().config
}

/// Returns the one sync of a file that holds `keys` beside the necessary ones.
fn sync_with(keys: &str) -> Sync {
    let text = format!("sync {{ default.mirror, source = '/s/data', target = 'h:/d/data', {keys} }}");
    config(&text).syncs.remove(0)
}

fn warnings(text: &str) -> Vec<String> {
    load_text(text).unwrap().warnings.iter().map(ToString::to_string).collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.syncs.iter().map(|sync| sync.name.as_str()).collect()
}

fn plain(name: &str, source: &str, targets: &[&str]) -> Sync {
    let mut targets: Vec<Target> = targets.iter().map(|spec| parse_target(spec).unwrap()).collect();
    name_targets(&mut targets);
    Sync::new(name, source, targets)
}

#[test]
fn a_sync_of_source_and_target_has_the_defaults_of_the_model() {
    let config = config("sync { default.mirror, source = '/s/data/', target = 'h:/d/data/' }");
    let expected =
        Config { settings: Settings::default(), syncs: vec![plain("data", "/s/data", &["h:/d/data"])] };
    assert_eq!(config, expected);
}

const EVERY_KEY: &str = r#"
settings { logfile = "/l", pidfile = "/p", statusFile = "/s", statusInterval = 5, control = { path = "/c", group = "adm" },
           nodaemon = true, insist = 1, onepass = false, logident = "speil-www", logfacility = "daemon",
           http = "127.0.0.1:9130", agentCheck = { listen = "127.0.0.1:9131", target = "web2", maxLag = 5 },
           notify = { mail = { "ops@example.org", "root" }, webhook = "https://h/x", command = "tell ops",
                      after = "1m", maxLag = 5 },
           history = "1M", host = "oslo",
           allowTargets = { "10.8.0.0/24", "*.example.no" } }
sync {
  default.mirror,
  name = "www", source = "/var/www/", targets = { "deploy@10.8.0.2:/w/", "web3:/w" },
  delay = 0.5, maxDelay = "3s", maxOpen = 90,
  delete = "startup", maxDelete = "25%", deleteGuard = false, deleteExcluded = true,
  filter = { "P lost+found/" }, include = "keep/", exclude = { "*.tmp", "/cache/" },
  reconcile = { interval = "1h30m", verify = "checksum" },
  durability = "file", bwlimit = { "20M", ["mon-fri 08:00-18:00"] = "5M" }, connections = 4, compress = false, watch = "poll", pollInterval = 7,
  transport = "ssh2", agent = { "sudo", "speil" }, numericIds = true, oneFileSystem = true,
  perms = false, owner = false, group = false, times = false, dirTimes = false, linkTimes = false,
  xattrs = false, privilegedXattrs = false, acls = false, hardLinks = false, devices = false,
  specials = false, symlinks = false, wholeFile = true, sparse = true, update = true, existing = true,
  ignoreExisting = true, sizeOnly = true, chmod = "D2775,F664", usermap = "www:1", groupmap = "5-7:w",
  maxSize = "2G", minSize = 10, modifyWindow = 1,
  timeout = "30s", forceRoot = true,
  ssh = { port = 2222, identityFile = "/etc/speil/id", options = { Compression = false, ConnectTimeout = 5 },
          command = "ssh -F '/a b'", _extra = { "-4" } },
}"#;

/// Returns what [`EVERY_KEY`] sets.
fn every_setting() -> Settings {
    Settings {
        host: Some("oslo".to_owned()),
        history: 1 << 20,
        notify: Some(Notify {
            mail: vec!["ops@example.org".into(), "root".into()],
            webhook: Some("https://h/x".into()),
            command: vec!["tell".into(), "ops".into()],
            after: Duration::from_secs(60),
            max_lag: Duration::from_secs(5),
        }),
        logfile: Some("/l".into()),
        pidfile: Some("/p".into()),
        status_file: Some("/s".into()),
        status_interval: Duration::from_secs(5),
        control: Some("/c".into()),
        control_group: Some("adm".into()),
        nodaemon: true,
        insist: true,
        onepass: false,
        hook_timeout: Duration::from_secs(10),
        log_format: LogFormat::Human,
        log_ident: Some("speil-www".into()),
        log_facility: Some("daemon".into()),
        http: Some(crate::config::Http { listen: "127.0.0.1:9130".into(), token: None }),
        agent_checks: vec![crate::config::AgentCheck {
            listen: "127.0.0.1:9131".into(),
            target: Some("web2".into()),
            max_lag: Duration::from_secs(5),
            down_lag: None,
        }],
        allowed: Allowed::parse(&["10.8.0.0/24".into(), "*.example.no".into()]).unwrap(),
    }
}

#[test]
fn every_key_reaches_the_model() {
    let loaded = load_text(EVERY_KEY).unwrap();
    assert_eq!(loaded.warnings, []);
    let mut sync = plain("www", "/var/www", &["deploy@10.8.0.2:/w", "web3:/w"]);
    sync.delay = Duration::from_millis(500);
    sync.max_delay = Duration::from_secs(3);
    sync.max_open = Duration::from_secs(90);
    sync.delete = DeleteMode::Startup;
    sync.guard = Guard { enabled: false, max_delete: MaxDelete::Percent(25.0), delete_excluded: true };
    sync.filters =
        ["P lost+found/", "+ keep/", "- *.tmp", "- /cache/"].map(|rule| rule.as_bytes().to_vec()).to_vec();
    sync.reconcile = Reconcile { interval: Some(Duration::from_secs(5400)), verify: Verify::Checksum };
    sync.durability = Durability::File;
    sync.bwlimit = Some(20 << 20);
    let days = [false, true, true, true, true, true, false];
    sync.bwlimit_hours = vec![Hours { days, from: 8 * 60, to: 18 * 60, rate: Some(5 << 20) }];
    sync.connections = 4;
    sync.compress = Compress::Never;
    sync.watch = Backend::Poll;
    sync.poll_interval = Duration::from_secs(7);
    sync.transport = Transport::Ssh2;
    sync.agent = AgentSource::Command(vec!["sudo".into(), "speil".into()]);
    sync.mask = crate::tree::Mask::nothing();
    sync.selection = Selection {
        recursive: true,
        update: true,
        existing: true,
        ignore_existing: true,
        size_only: true,
        whole_file: true,
        one_file_system: true,
        numeric_ids: true,
        chmod: vec!["D2775,F664".into()],
        usermap: Some("www:1".into()),
        groupmap: Some("5-7:w".into()),
        max_size: Some(2 << 30),
        min_size: Some(10),
        modify_window: Duration::from_secs(1),
        sparse: true,
        ..Selection::default()
    };
    sync.ssh = Ssh {
        command: Some(vec!["ssh".into(), "-F".into(), "/a b".into()]),
        port: Some(2222),
        identity_file: Some("/etc/speil/id".into()),
        options: vec![("Compression".into(), "no".into()), ("ConnectTimeout".into(), "5".into())],
        extra: vec!["-4".into()],
    };
    sync.timeout = Duration::from_secs(30);
    sync.force_root = true;
    let settings = every_setting();
    sync.allowed = settings.allowed.clone();
    assert_eq!(loaded.config.syncs, [sync]);
    assert_eq!(loaded.config.settings, settings);
}

#[test]
fn bad_configurations_say_the_line_the_key_and_what_is_allowed() {
    let text = include_str!("tests/bad.txt");
    let mut cases = 0;
    for case in text.split("\n==== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (program, expected) = rest.split_once("\n----\n").unwrap();
        let mut expected = expected.trim_end().lines();
        let (message, hint) = load_text(program).expect_err(name);
        assert_eq!(Some(message.as_str()), expected.next(), "{name}");
        let hint = hint.map(|hint| format!("hint: {hint}"));
        assert_eq!(hint.as_deref(), expected.next(), "{name}");
        cases += 1;
    }
    assert_eq!(cases, text.matches("\n----\n").count(), "a case is malformed");
    assert!(cases > 50);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = load(Path::new("/nonexistent/app.lua")).unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent/app.lua: cannot read it: no such file or directory (ENOENT)");
    let empty = load_files(&[("conf/.hidden.lua", ""), ("conf/readme.txt", "")], &["conf"]);
    assert_eq!(empty, Err(("conf: no *.lua file in this directory".to_owned(), None)));
}

#[test]
fn a_configuration_is_a_program() {
    let config = config(
        r##"#!/usr/bin/env speil
local hosts = {}
for number = 1, 3 do hosts[#hosts + 1] = string.format("web%d:/srv/", number) end
local function on_all(dir) local t = {} for i, host in ipairs(hosts) do t[i] = host .. dir end return t end
assert(os.getenv("PATH") and io.open and utf8.char and coroutine.wrap and table.pack and math.floor)
local function mirror(name) sync { default.mirror, source = "/srv/" .. name, targets = on_all(name) } end
for _, name in ipairs { "a", "b" } do mirror(name) end
"##,
    );
    assert_eq!(names(&config), ["a", "b"]);
    assert_eq!(config.syncs[1].targets.len(), 3);
}

#[test]
fn own_keys_win_and_bases_follow_in_their_order() {
    let config = config(
        r#"
local slow = { delay = 5, exclude = { "*.slow" }, ssh = { port = 1, options = { A = "slow", B = "slow" } } }
local base = { slow, delay = 3, timeout = 9, exclude = { "*.base" }, ssh = { identityFile = "/base" } }
sync { default.mirror, base, { timeout = 99, delete = false }, source = "/s", target = "h:/d/s", delay = 1,
       exclude = { "*.own" }, ssh = { options = { A = "own" } } }
"#,
    );
    let sync = &config.syncs[0];
    assert_eq!((sync.delay.as_secs(), sync.timeout.as_secs()), (1, 9));
    assert_eq!(sync.delete, DeleteMode::Never);
    assert_eq!(texts(&sync.filters), ["- *.own", "- *.base", "- *.slow"]);
    let options = vec![("A".to_owned(), "own".to_owned()), ("B".to_owned(), "slow".to_owned())];
    let ssh = Ssh { port: Some(1), identity_file: Some("/base".into()), options, ..Ssh::default() };
    assert_eq!(sync.ssh, ssh);
}

#[test]
fn false_of_the_block_itself_beats_true_of_a_base() {
    let config = config(
        "sync { default.mirror, { acls = true, delete = true }, source = '/s', target = 'h:/d', acls = false, delete = false }",
    );
    assert!(!config.syncs[0].mask.acls);
    assert_eq!(config.syncs[0].delete, DeleteMode::Never);
}

#[test]
fn a_base_is_not_changed_by_the_syncs_that_use_it() {
    let config = config(
        r#"
local base = { exclude = { "*.base" }, ssh = { port = 1 } }
sync { default.mirror, base, source = "/s/a", target = "h:/d/a", exclude = { "*.a" }, ssh = { port = 2 } }
sync { default.mirror, base, source = "/s/b", target = "h:/d/b" }
default.mirror.delay = 9
sync { default.mirror, base, source = "/s/c", target = "h:/d/c" }
"#,
    );
    assert_eq!(texts(&config.syncs[1].filters), ["- *.base"]);
    assert_eq!(config.syncs[1].ssh.port, Some(1));
    assert_eq!(config.syncs[1].delay, Duration::from_millis(20));
    assert_eq!(config.syncs[2].delay, Duration::from_secs(9));
}

#[test]
fn merge_false_and_commands_are_taken_whole_or_not_at_all() {
    let config = config(
        r#"
local base = { exclude = { _merge = false, "*.base" }, agent = { "sudo", "speil" } }
sync { default.mirror, base, source = "/s/a", target = "h:/d/a", exclude = { "*.a" }, agent = { "speil" } }
sync { default.mirror, base, source = "/s/b", target = "h:/d/b" }
"#,
    );
    assert_eq!(texts(&config.syncs[0].filters), ["- *.a"]);
    assert_eq!(config.syncs[0].agent, AgentSource::Command(vec!["speil".into()]));
    assert_eq!(texts(&config.syncs[1].filters), ["- *.base"]);
    assert_eq!(config.syncs[1].agent, AgentSource::Command(vec!["sudo".into(), "speil".into()]));
}

#[test]
fn words_of_the_agent_tell_a_prefix_from_a_command() {
    let agent = |value: &str| sync_with(&format!("agent = {value}")).agent;
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    assert_eq!(agent("'auto'"), AgentSource::Auto);
    assert_eq!(agent("'path'"), AgentSource::Path);
    assert_eq!(agent("'deploy'"), AgentSource::Deploy);
    assert_eq!(agent("'sudo -n'"), AgentSource::Prefixed(words(&["sudo", "-n"])));
    assert_eq!(agent("{ 'nice' }"), AgentSource::Prefixed(words(&["nice"])));
    assert_eq!(agent("'sudo /opt/speil'"), AgentSource::Command(words(&["sudo", "/opt/speil"])));
    assert_eq!(agent("'/opt/mirror-agent'"), AgentSource::Command(words(&["/opt/mirror-agent"])));
}

#[test]
fn quantities_may_be_numbers_or_texts() {
    let sync = sync_with("maxDelete = 100, bwlimit = 500, delay = 5, timeout = '1m30s'");
    assert_eq!(sync.guard.max_delete, MaxDelete::Count(100));
    assert_eq!(sync.bwlimit, Some(500 << 10));
    assert_eq!(sync.max_delay, Duration::from_secs(5), "grows with delay");
    assert_eq!(sync.timeout, Duration::from_secs(90));
    assert_eq!(sync_with("maxDelete = 'none'").guard.max_delete, MaxDelete::Unlimited);
    assert_eq!(sync_with("bwlimit = 0").bwlimit, None);
    for never in ["false", "'never'", "0"] {
        assert_eq!(sync_with(&format!("reconcile = {{ interval = {never} }}")).reconcile.interval, None);
    }
    for (value, compress) in
        [("true", Compress::Always), ("'always'", Compress::Always), ("'auto'", Compress::Auto)]
    {
        assert_eq!(sync_with(&format!("compress = {value}")).compress, compress);
    }
}

#[test]
fn patterns_of_any_bytes_reach_the_rules() {
    let text =
        r#"sync { default.mirror, source = "/s", target = "h:/d", exclude = "caf\xe9*", filter = "P \xff" }"#;
    let loaded = load_text(text).unwrap();
    assert_eq!(loaded.config.syncs[0].filters, [b"P \xff".to_vec(), b"- caf\xe9*".to_vec()]);
}

#[test]
fn exclude_from_stands_beside_the_configuration_and_reads_as_rsyncs() {
    let text = "sync { default.mirror, source = '/s', target = 'h:/d', exclude = 'x', excludeFrom = 'list' }";
    let list = "# comment\n*.tmp\n\n; comment\n+ keep\n- drop \n";
    let loaded = load_files(&[("c/app.lua", text), ("c/list", list)], &["c/app.lua"]).unwrap();
    assert_eq!(texts(&loaded.config.syncs[0].filters), ["- x", "- *.tmp", "+ keep", "- drop"]);
}

#[test]
fn a_directory_means_its_lua_files_in_the_order_of_their_names() {
    let sync =
        |name: &str| format!("sync {{ default.mirror, base, source = '/s/{name}', target = 'h:/d/{name}' }}");
    let loaded = load_files(
        &[
            ("d/20-b.lua", &sync("b")),
            ("d/10-a.lua", &sync("a")),
            ("d/00-shared.lua", "base = { delay = 7 }"),
            ("d/30-c.lua.bak", "error('not loaded')"),
            ("d/.40-d.lua", "error('not loaded')"),
            ("last.lua", &sync("z")),
        ],
        &["d", "last.lua"],
    )
    .unwrap();
    assert_eq!(names(&loaded.config), ["a", "b", "z"]);
    assert!(loaded.config.syncs.iter().all(|sync| sync.delay == Duration::from_secs(7)));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn files_are_found_beside_the_file_that_names_them() {
    let loaded = load_files(
        &[
            ("main.lua", "dofile('inc/one.lua'); local two = require 'inc.two'; two()"),
            ("inc/one.lua", "assert(loadfile('three.lua'))()"),
            (
                "inc/two.lua",
                "return function() sync { default.mirror, source = '/s/2', target = 'h:/d/2' } end",
            ),
            ("inc/three.lua", "\n\nsync { default.mirror, source = '/s/3', target = 'h:/d/3', dealy = 1 }"),
        ],
        &["main.lua"],
    );
    assert_eq!(
        loaded,
        Err(("inc/three.lua:3: unknown key \"dealy\"".into(), Some("did you mean \"delay\"?".into())))
    );
}

#[test]
fn syncs_without_a_name_take_the_last_component_and_stay_unique() {
    let sync = |name: &str, at: &str| {
        format!("sync {{ default.mirror, {name} source = '{at}', target = 'h:/d{at}' }}")
    };
    let text = [
        sync("", "/a/www"),
        sync("", "/b/www"),
        sync("name = 'www',", "/c/www"),
        sync("", "/d/my site"),
        sync("forceRoot = true,", "/"),
    ]
    .join("\n");
    assert_eq!(names(&config(&text)), ["www-2", "www-3", "www", "my_site", "root"]);
}

#[test]
fn settings_of_old_files_are_accepted_with_a_warning() {
    let text = r#"settings = {
  logfile = "/l",
}
settings.statusFile = "/s"
settings { "nodaemon", statusIntervall = 3, maxProcesses = 4 }
assert(settings.logfile == "/l" and settings("statusFile") == "/s" and settings("nodaemon") == true)
sync { default.mirror, source = "/s", target = "h:/d" }"#;
    let loaded = load_text(text).unwrap();
    assert_eq!(loaded.config.settings.logfile, Some("/l".into()));
    assert_eq!(loaded.config.settings.status_file, Some("/s".into()));
    assert_eq!(loaded.config.settings.status_interval, Duration::from_secs(3));
    assert!(loaded.config.settings.nodaemon);
    let shown: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "app.lua:3: settings = { ... } is the old form; write settings { ... }",
            "app.lua:5: \"statusIntervall\" is the old spelling of \"statusInterval\"",
            "app.lua:5: \"maxProcesses\" changes nothing here",
        ]
    );
}

#[test]
fn a_setting_that_is_given_twice_is_told() {
    let sync = "sync { default.mirror, source = '/s', target = 'h:/d' }";
    let text = format!("settings {{ logfile = '/a' }}\nsettings {{ logfile = '/b', pidfile = 'p' }}\n{sync}");
    assert_eq!(
        warnings(&text),
        [
            "app.lua:2: \"logfile\" was set before; this value holds",
            "app.lua:2: \"pidfile\" is relative: a daemon starts in \"/\"",
        ]
    );
}

#[test]
fn a_misspelt_false_is_told() {
    let text = "sync { default.mirror, source = '/s', target = 'h:/d',\n delete = flase }\nlocal u = unpack or table.unpack";
    assert_eq!(warnings(text), ["app.lua:2: \"flase\" is not defined and counts as nil"]);
}

#[test]
fn nested_targets_of_different_sources_are_told_unless_excluded_or_alike() {
    let pair = |upper: &str, lower: &str| {
        warnings(&format!(
            "sync {{ default.mirror, name = 'up', source = '/s/all', target = 'h:/d', {upper} }}\n\
             sync {{ default.mirror, name = 'low', source = '{lower}', target = 'root@h:/d/sub' }}"
        ))
    };
    let text = "app.lua:2: target root@h:/d/sub of sync \"low\" lies inside target h:/d of sync \"up\", which may \
                delete what the first one brings: exclude it there";
    assert_eq!(pair("", "/other"), [text]);
    assert_eq!(pair("exclude = '/sub/'", "/other"), Vec::<String>::new());
    assert_eq!(pair("delete = false", "/other"), Vec::<String>::new());
    assert_eq!(pair("", "/s/all/sub"), Vec::<String>::new());
    assert_eq!(pair("", "/s/all/bus"), [text]);
}

#[test]
fn validate_names_sources_and_keys_that_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let missing = dir.path().join("missing");
    let sync = |name: &str, source: &Path| Sync::new(name, source, vec![parse_target("h:/d").unwrap()]);
    let mut keyed = sync("keyed", dir.path());
    keyed.ssh.identity_file = Some(missing.clone());
    let mut owned = sync("owned", dir.path());
    // The target behind `h` has users of its own; this host's are known.
    owned.targets.push(parse_target("/here").unwrap());
    owned.selection.chown = Some("wwwdata:no.group".to_owned());
    let here = owned.targets[1].name.clone();
    let syncs = vec![sync("fine", dir.path()), sync("gone", &missing), sync("flat", &file), keyed, owned];
    let found = Config { settings: Settings::default(), syncs }.validate();
    let root = dir.path().display();
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            format!("gone: source \"{root}/missing\": no such file or directory (ENOENT)"),
            format!("flat: source \"{root}/file\" is not a directory"),
            format!("keyed: key \"ssh.identityFile\" \"{root}/missing\": no such file or directory (ENOENT)"),
            format!("owned: target {here}: this host has no user \"wwwdata\" (key \"chown\")"),
            format!("owned: target {here}: this host has no group \"no.group\" (key \"chown\")"),
        ]
    );
}

/// Returns how a program ends that may run 2 million instructions in 16 MiB.
fn bounded(program: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.lua");
    fs::write(&path, program).unwrap();
    let limits = Limits { instructions: 2_000_000, memory_bytes: 16 << 20 };
    let error = load_within(&[&path], limits, false).unwrap_err();
    assert!(error.place.file.ends_with("/app.lua"), "{error}");
    error.message()
}

#[test]
fn a_program_that_does_not_end_is_stopped() {
    for program in [
        "while true do end",
        "local function f() return f() end f()",
        "while true do pcall(function() while true do end end) end",
        "while true do local ok, e = xpcall(function() repeat until false end, function(e) return e end) end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "setmetatable(_G, nil) while true do end",
    ] {
        assert_eq!(bounded(program), "still running after 2 million instructions", "{program}");
    }
}

#[test]
fn a_program_that_takes_all_memory_is_stopped() {
    for program in
        ["local t = {} while true do t[#t + 1] = ('x'):rep(100000) .. #t end", "local s = ('x'):rep(1 << 30)"]
    {
        assert_eq!(bounded(program), "needs more than 16 MiB of memory", "{program}");
    }
}

#[test]
fn a_program_cannot_end_the_daemon() {
    assert_eq!(bounded("pcall(os.exit, 3)"), "the configuration ended itself with os.exit(3)");
    assert_eq!(bounded("os.exit(false)"), "the configuration ended itself with os.exit(1)");
}

#[test]
fn every_example_loads_without_a_warning() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let dir = tempfile::tempdir().unwrap();
    let this_host = dir.path().join("host.lua");
    fs::write(&this_host, "settings { host = 'oslo' }").unwrap();
    let syncs = |name: &str| {
        let loaded = load_all(&[&this_host, &examples.join(name)]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.warnings, [], "{name}");
        for sync in &loaded.config.syncs {
            assert_eq!(risks(sync, &|_| false), Vec::<String>::new(), "{name}");
        }
        names(&loaded.config).join(" ")
    };
    let expected = [
        ("config.d", "shop-uploads forum-uploads wiki-uploads shop-static forum-static"),
        ("failover", "uploads"),
        ("hooks.lua", "uploads"),
        ("two-standbys.lua", "uploads"),
        ("uploads.lua", "uploads"),
        ("web-root.lua", "site"),
    ];
    let mut present: Vec<String> = fs::read_dir(&examples)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".rs"))
        .collect();
    present.sort();
    assert_eq!(present, expected.map(|(name, _)| name), "an example is not tested");
    for (name, syncs_expected) in expected {
        assert_eq!(syncs(name), syncs_expected, "{name}");
    }
}
