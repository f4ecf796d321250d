use std::io::Write;

use super::*;

fn load_text(text: &str) -> Result<LsyncdConfig, LsyncdError> {
    let mut file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load_lsyncd(&LsyncdOptions { file: Some(file.path().to_owned()), ..LsyncdOptions::default() })
}

fn words(list: &[Vec<u8>]) -> Vec<String> {
    list.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[test]
fn a_byte_order_mark_and_a_first_line_for_the_shell_are_passed_over_as_lua_does() {
    for start in ["\u{feff}", "\u{feff}#!/usr/bin/lsyncd\n", "#!/usr/bin/lsyncd\n", "#\n"] {
        let loaded = load_text(&format!("{start}sync{{ default.rsync, source='/tmp', target='/t' }}"));
        assert_eq!(
            loaded.map(|loaded| loaded.syncs.len()).map_err(|error| error.to_string()),
            Ok(1),
            "{start:?}"
        );
    }
}

#[test]
fn what_lsyncd_refuses_is_refused_in_its_words() {
    for (text, says) in [
        ("settings{foo=1}", "setting \"foo\" unknown."),
        ("settings{maxProceses=1}", "did you mean \"maxProcesses\"?"),
        ("", "Nothing to watch!"),
        ("sync{default.rsync, target='/t'}", ":1: source missing from sync."),
        (
            "sync{default.rsync, source='/nowhere/x', target='/t'}",
            "Cannot access source directory: /nowhere/x",
        ),
        ("sync{default.rsync, source='/'}", ":1: default.rsync needs \"target\" configured"),
        (
            "sync{default.rsync, source='/', target='/t', rsync={foo=1}}",
            "Parameter \"rsync.foo\" unknown. ( if this is not a typo add it to checkgauge )",
        ),
        ("sync{default.rsync, source='/', target='/t', rsync=1}", "Parameter \"rsync\" must be a table."),
        ("sync{default.rsync, source='/', target='/t', delay='3'}", "delay must be a number and >= 0"),
        (
            "sync{default.rsync, source='/', target='/t', exclude=3}",
            "type for exclude must be table or string",
        ),
        ("sync{default.rsync, source='/', target='/t', filter={'x'}}", "Unknown filter rule: \"x\""),
        ("sync{default.rsyncssh, source='/', targetdir='/t'}", "default.rsyncssh needs \"host\" configured"),
        (
            "sync{default.rsyncssh, source='/', host='h', targetdir='/t', maxProcesses=2}",
            "default.rsyncssh must have maxProcesses set to 1.",
        ),
        ("sync{default.rsync, source='/', target='/t', onCreate='x'}", "Parameter \"onCreate\" unknown."),
        ("sync{source='/', host='x'}", "Parameter \"host\" unknown."),
        (
            "sync{default.rsync, source='/', target='/t', engine='fast'}",
            "engine must be \"auto\", \"native\" or \"rsync\", not \"fast\"",
        ),
        (
            "sync{default.rsync, source='/', target='/t', crontab={'* * *'}}",
            ":1: crontab \"* * *\" has 3 fields, not 6",
        ),
        ("sync{default.rsync, source='/', target='/t', tunnel={}}", "tunnel must be made by tunnel{ ... }"),
        ("tunnel{ command='x', paralel=3 }", "did you mean \"parallel\"?"),
        ("x = = 1", "error loading "),
        ("error('no')", "error preparing "),
    ] {
        let error = load_text(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn own_values_win_and_lists_are_joined() {
    let config = load_text(
        "local base = { delay = 3, exclude = { 'b' }, rsync = { compress = true, _extra = { '--b' } } }
         sync{ default.rsync, base, source = '/', target = '/t', exclude = { 'a' },
               rsync = { _extra = { '--a' }, bwlimit = 3, times = false } }",
    )
    .unwrap();
    let sync = &config.syncs[0];
    assert_eq!(sync.name, "Sync1");
    assert_eq!(sync.delay, Some(std::time::Duration::from_secs(15)));
    assert_eq!(words(&sync.excludes), ["a", "b"]);
    assert_eq!(words(&sync.rsync.arguments), ["-zls", "--a", "--b", "--bwlimit=3"]);
    assert_eq!(sync.target.as_deref(), Some(&b"/t/"[..]));
}

#[test]
fn settings_before_a_sync_override_it() {
    let config = load_text(
        "settings{ maxDelays = 7 }
         sync{ default.rsync, source = '/', target = '/t', maxDelays = 3 }
         settings{ maxDelays = 9 }",
    )
    .unwrap();
    assert_eq!(config.syncs[0].delays_max, 7);
}

#[test]
fn old_forms_are_taken_with_a_warning() {
    let config = load_text(
        "settings = { statusIntervall = 3, nodaemon = true }
         sync{ default.rsync, source = '/', target = '/t', rsyncOpts = { '-avz' } }",
    )
    .unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.settings.nodaemon);
    assert_eq!(config.settings.status_interval, Some(std::time::Duration::from_secs(3)));
    assert_eq!(words(&config.syncs[0].rsync.arguments), ["-avz"]);
}

#[test]
fn own_exit_codes_are_taken_as_written() {
    let config = load_text(
        "sync{ default.rsyncssh, source = '/', host = 'h', targetdir = '/t', ssh = { port = 22 },
               rsyncExitCodes = { [0] = 'ok', [1] = 'again', [23] = 'die' } }",
    )
    .unwrap();
    let sync = &config.syncs[0];
    assert_eq!(sync.rsync_codes.verdict(0), Some(Verdict::Ok));
    assert_eq!(sync.rsync_codes.verdict(23), Some(Verdict::Die));
    assert_eq!(sync.rsync_codes.verdict(24), None);
    assert_eq!(sync.ssh_codes.verdict(255), Some(Verdict::Again));
    assert_eq!(sync.target.as_deref(), Some(&b"h:/t/"[..]));
    assert_eq!(sync.ssh.as_ref().unwrap().0.rsh.as_deref(), Some(&b"--rsh=ssh -p 22"[..]));
}

#[test]
fn checks_can_be_switched_off_and_extended() {
    load_text("sync{ source = '/', checkgauge = false, anything = 1 }").unwrap();
    load_text("sync{ source = '/', checkgauge = { mine = true }, mine = 1 }").unwrap();
}

#[test]
fn globals_are_locked_after_the_start_only() {
    let config = load_text("x = undefined; sync{ source = '/', action = function() y = 1 end }").unwrap();
    config.lock().unwrap();
    let Handler::Lua(action) = &config.syncs[0].action else { panic!() };
    assert!(action.call::<()>(()).is_err());
}

#[test]
fn layers_keep_their_own_parts_and_users_replace_them() {
    let config = load_text(
        "sync{ default.rsync, source = '/', target = '/t', init = false, collect = function() end }",
    )
    .unwrap();
    let sync = &config.syncs[0];
    assert_eq!(sync.init, Handler::Absent);
    assert_eq!(sync.action, Handler::Builtin(Builtin::RsyncAction));
    assert!(matches!(sync.collect, Handler::Lua(_)));
}
