//! Claims about blocks of lsyncd's layers.

use crate::config::tests::texts;
use crate::config::{AgentSource, Compress, Config, DeleteMode, Loaded, Ssh, Sync, Verify, load};
use crate::tree::Mask;
use std::time::Duration;

fn load_text(text: &str) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lsyncd.conf.lua");
    std::fs::write(&path, text).unwrap();
    std::fs::write(dir.path().join("excludes"), "# no\n\n- a\n+ b\nc\n").unwrap();
    let root = format!("{}/", dir.path().display());
    load(&path).map_err(|error| error.to_string().replace(&root, ""))
}

/// Returns the one sync of a `default.rsync` block with these keys.
fn rsync_with(keys: &str) -> Sync {
    let text = format!("sync {{ default.rsync, source = '/s/data', target = 'h:/d/data', {keys} }}");
    let Config { mut syncs, .. } = load_text(&text).unwrap().config;
    syncs.remove(0)
}

fn notes(keys: &str) -> Vec<String> {
    let text = format!("sync {{ default.rsync, source = '/s/data', target = 'h:/d/data', {keys} }}");
    load_text(&text).unwrap().warnings.into_iter().map(|warning| warning.text).collect()
}

fn unmapped(layer: &str, keys: &str) -> String {
    let text = format!("sync {{ default.{layer}, source = '/s/data', {keys} }}");
    let message = load_text(&text).unwrap_err();
    let front = format!("lsyncd.conf.lua:1: default.{layer}: speil has nothing like ");
    message.strip_prefix(&front).unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[test]
fn rsync_without_options_keeps_links_and_times_alone() {
    let sync = rsync_with("");
    let mask = Mask { symlinks: true, times: true, dir_times: true, link_times: true, ..Mask::nothing() };
    assert_eq!(sync.mask, mask);
    assert_eq!((sync.delay.as_secs(), sync.max_delay.as_secs()), (15, 15));
    assert_eq!((sync.delete, sync.compress), (DeleteMode::Always, Compress::Never));
    assert_eq!(sync.targets[0].to_string(), "h:/d/data");
}

#[test]
fn archive_yields_to_single_options() {
    let mask =
        rsync_with("rsync = { archive = 1, owner = false, xattrs = true, omit_dir_times = true }").mask;
    assert!(mask.perms && mask.group && mask.devices && mask.specials && mask.times && mask.link_times);
    assert!(mask.xattrs && mask.privileged_xattrs);
    assert!(!mask.owner && !mask.dir_times && !mask.acls && !mask.hard_links);
}

#[test]
fn acls_imply_permissions() {
    assert!(rsync_with("rsync = { acls = true }").mask.perms);
}

#[test]
fn options_with_a_like_in_speil_reach_the_model() {
    let sync = rsync_with(
        "delay = 3, delete = 'running', filter = { '+ /keep', '- /drop' }, exclude = { '*.bak' }, excludeFrom = 'excludes',
         rsync = { compress = true, checksum = true, update = true, whole_file = true, existing = true, bwlimit = 200,
           chmod = 'D755', chown = 'a:b', timeout = 90, rsh = '/usr/bin/ssh -p 22 -i /k', rsync_path = 'sudo rsync',
           ipv4 = true, delete_excluded = true, binary = '/usr/local/bin/rsync', verbose = true }",
    );
    assert_eq!(texts(&sync.filters), ["+ /keep", "- /drop", "- *.bak", "- a", "- c"]);
    assert_eq!((sync.delete, sync.compress), (DeleteMode::Running, Compress::Always));
    assert!(sync.mask.checksum && sync.reconcile.verify == Verify::Checksum);
    assert!(sync.selection.update && sync.selection.whole_file && sync.selection.existing);
    assert_eq!(sync.bwlimit, Some(200 << 10));
    assert_eq!((sync.selection.chmod, sync.selection.chown), (vec!["D755".into()], Some("a:b".into())));
    assert_eq!(sync.timeout, Duration::from_secs(90));
    assert_eq!(sync.agent, AgentSource::Prefixed(vec!["sudo".into()]));
    assert!(sync.guard.delete_excluded);
    let command = ["/usr/bin/ssh", "-p", "22", "-i", "/k"].map(str::to_owned).to_vec();
    assert_eq!(sync.ssh, Ssh { command: Some(command), extra: vec!["-4".into()], ..Ssh::default() });
}

#[test]
fn extra_arguments_read_as_on_the_command_line() {
    let sync = rsync_with(
        "rsync = { _extra = { '-aHe', 'ssh -p 2', '--no-owner', '--bwlimit', '5m', '--exclude=x', '--numeric-ids' } }",
    );
    assert!(sync.mask.hard_links && sync.mask.perms && !sync.mask.owner && sync.selection.numeric_ids);
    assert_eq!(sync.ssh.command, Some(["ssh", "-p", "2"].map(str::to_owned).to_vec()));
    assert_eq!((sync.bwlimit, sync.filters), (Some(5 << 20), vec![b"- x".to_vec()]));
    let extra = "target = 'h:/d', rsync = { _extra = { '-aZ', '--inplace', '--files-from=x', 'word' } }";
    let keys = ["-aZ", "--inplace", "--files-from=x", "word"].map(|word| format!("rsync._extra {word}"));
    assert_eq!(unmapped("rsync", extra), keys.join(", "));
}

#[test]
fn rsyncssh_joins_host_and_directory() {
    let one = |keys: &str| {
        let text = format!("sync {{ default.rsyncssh, source = '/s', targetdir = '/d/', {keys} }}");
        load_text(&text).unwrap().config.syncs.remove(0)
    };
    assert_eq!(one("host = 'me@web'").targets[0].to_string(), "me@web:/d");
    assert_eq!(one("host = 'me@::1'").targets[0].to_string(), "me@[::1]:/d");
    let sync = one("host = 'web', rsync = { rsh = 'ssh -v' },
         ssh = { port = 22, identityFile = '/k', options = { User = 'x' }, _extra = { '-4' } }");
    let expected = Ssh {
        command: None,
        port: Some(22),
        identity_file: Some("/k".into()),
        options: vec![("User".into(), "x".into())],
        extra: vec!["-4".into()],
    };
    assert_eq!(sync.ssh, expected);
    let sync = one("host = 'web', rsync = { rsh = 'ssh -v' }, ssh = { binary = '/opt/ssh' }");
    assert_eq!(sync.ssh.command, Some(vec!["ssh".into(), "-v".into()]));
}

#[test]
fn direct_keeps_what_cp_keeps() {
    let text = "sync { default.direct, source = '/s', target = '/t' }";
    let sync = load_text(text).unwrap().config.syncs.remove(0);
    assert!(sync.mask.perms && sync.mask.owner && sync.mask.group && sync.mask.times);
    assert_eq!((sync.delay.as_secs(), &sync.targets[0].host), (1, &None));
}

#[test]
fn keys_without_a_like_are_returned_by_name() {
    let keys = "target = 'h:/d', init = false, onCreate = 'cp', onMove = true, crontab = { '0' },
         rsync = { inplace = true, backup_dir = '/b', copy_links = true, rsync_path = 'mkdir x; rsync' }";
    let names = "crontab, init, onCreate, rsync.rsync_path = \"mkdir x; rsync\", rsync.copy_links, rsync.inplace, \
                 rsync.backup_dir";
    assert_eq!(unmapped("rsync", keys), names);
    assert_eq!(unmapped("rsync", "target = 'h::m'"), "target = \"h::m\"");
    assert_eq!(unmapped("rsync", "target = 'h:/d', rsync = { executability = true }"), "rsync.executability");
    assert_eq!(
        notes("rsync = { executability = true, perms = true, inplace = false }"),
        Vec::<String>::new()
    );
}

#[test]
fn a_delete_of_rsync_that_contradicts_the_sync_is_not_passed_over() {
    let with = |keys: &str| unmapped("rsync", &format!("target = 'h:/d', {keys}"));
    assert_eq!(with("rsync = { delete = false }"), "rsync.delete");
    assert_eq!(
        with("delete = false, rsync = { _extra = { '--delete-after' } }"),
        "rsync._extra --delete-after"
    );
    assert_eq!(rsync_with("rsync = { delete = true }").delete, DeleteMode::Always);
}

#[test]
fn keys_that_change_nothing_are_noted() {
    let expected = [
        "exitcodes changes nothing here",
        "maxProcesses changes nothing here",
        "delete = \"false\" counts as false, as in lsyncd",
        "rsync.temp_dir changes nothing here",
    ];
    let keys = "maxProcesses = 2, delete = 'false', exitcodes = { [0] = 'ok' }, rsync = { temp_dir = '/t', verbose = 1 }";
    assert_eq!(notes(keys), expected);
    assert_eq!(notes("checkgauge = { mine = true }, mine = 5"), ["mine changes nothing here"]);
}

#[test]
fn what_lsyncd_refuses_is_refused() {
    for (keys, message) in [
        ("target = 'h:/d', rsync = { perm = true }", "unknown key \"rsync.perm\""),
        ("target = 'h:/d', maxDelay = 5", "unknown key \"maxDelay\""),
        ("target = 'h:/d', delay = '5'", "key \"delay\" is \"5\", allowed: a number of seconds, 0 or more"),
        ("target = 'h:/d', rsync = 'x'", "key \"rsync\" is \"x\", allowed: a table of rsync's options"),
        ("rsync = {}", "key \"target\" is missing"),
        (
            "target = 'h:/d', filter = { '* x' }",
            "key \"filter\" is \"* x\", allowed: \"+ PATTERN\" or \"- PATTERN\", or a list of them",
        ),
    ] {
        let text = format!("sync {{ default.rsync, source = '/s', {keys} }}");
        assert_eq!(load_text(&text), Err(format!("lsyncd.conf.lua:1: {message}")));
    }
    let text = "sync { default.direct, source = '/s', target = 'h:/d' }";
    assert_eq!(
        load_text(text),
        Err("lsyncd.conf.lua:1: key \"target\" is \"h:/d\", allowed: a directory of this host".to_owned())
    );
}
