//! What is wrong is said in lsyncd's words and ends with its status.

use std::fs;
use std::path::Path;

use super::scene::Scene;

/// A configuration or arguments, and what both say.
struct Wrong {
    /// What stands in the file; `None` where no file is given.
    text: Option<&'static str>,
    /// Arguments before the file.
    arguments: &'static [&'static str],
    /// A part of what both say on standard error.
    says: &'static str,
    status: i32,
}

const fn file(text: &'static str, says: &'static str) -> Wrong {
    Wrong { text: Some(text), arguments: &["-nodaemon"], says, status: 255 }
}

const fn line(arguments: &'static [&'static str], says: &'static str, status: i32) -> Wrong {
    Wrong { text: None, arguments, says, status }
}

const SYNC: &str = "sync{ default.rsync, source='@/s', target='@/t' }";

const ALL: [Wrong; 38] = [
    line(&["-x"], "unknown option command line option -x", 255),
    line(&["-delay"], "delay needs 1 arguments", 255),
    line(&["-rsyncssh", "a", "b"], "rsyncssh needs 3 arguments", 255),
    line(&["-nodaemon", "no-such-file"], "Cannot find config file at 'no-such-file'.", 255),
    line(&["one", "two"], "There can only be one config file in the command line.", 255),
    line(
        &["-rsync", "a", "b", "file"],
        "There cannot be command line syncs and a config file together.",
        255,
    ),
    line(&["-nodaemon", "-rsync", "/no/such/dir", "b"], "Cannot access source directory: /no/such/dir", 255),
    line(&[], "", 255),
    line(&["-help"], "", 255),
    line(&["--version"], "", 0),
    file("sync{", "error loading @/lsyncd.conf.lua: @/lsyncd.conf.lua:1:"),
    file(
        "local x = nil + 1",
        "error preparing @/lsyncd.conf.lua: @/lsyncd.conf.lua:1: attempt to perform arithmetic",
    ),
    file("error('mine')", "error preparing @/lsyncd.conf.lua: @/lsyncd.conf.lua:1: mine"),
    file("settings{ nodaemon = true }", "Nothing to watch!"),
    file("settings{ foo = 1 }", "setting \"foo\" unknown."),
    file("settings{ 'bar' }", "setting \"bar\" unknown."),
    file("sync{ default.rsync, target='@/t' }", "@/lsyncd.conf.lua:1: source missing from sync."),
    file("sync{ default.rsync, source='@/none', target='@/t' }", "Cannot access source directory: @/none"),
    file(
        "sync{ default.rsync, source='@/lsyncd.conf.lua', target='@/t' }",
        "Cannot access source directory: @/lsyncd.conf.lua",
    ),
    file("sync{ default.rsync, source='@/s' }", "default.rsync needs \"target\" configured"),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', foo=1 }",
        "Parameter \"foo\" unknown. ( if this is not a typo add it to checkgauge )",
    ),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', rsync={ foo=1 } }",
        "Parameter \"rsync.foo\" unknown. ( if this is not a typo add it to checkgauge )",
    ),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', rsync=true }",
        "Parameter \"rsync\" must be a table.",
    ),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', onCreate='x' }",
        "Parameter \"onCreate\" unknown.",
    ),
    file("sync{ default.rsync, source='@/s', target='@/t', delay='5' }", "delay must be a number and >= 0"),
    file("sync{ default.rsync, source='@/s', target='@/t', delay=-1 }", "delay must be a number and >= 0"),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', exclude=5 }",
        "type for exclude must be table or string",
    ),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', excludeFrom='/no/list' }",
        "Cannot open exclude file \"/no/list\"",
    ),
    file(
        "sync{ default.rsync, source='@/s', target='@/t', filter={ 'x y' } }",
        "Unknown filter rule: \"x y\"",
    ),
    file(
        "sync{ default.rsyncssh, source='@/s', targetdir='/t' }",
        "default.rsyncssh needs \"host\" configured",
    ),
    file(
        "sync{ default.rsyncssh, source='@/s', host='h' }",
        "default.rsyncssh needs \"targetdir\" configured",
    ),
    file(
        "sync{ default.rsyncssh, source='@/s', host='h', targetdir='/t', maxProcesses=2 }",
        "default.rsyncssh must have maxProcesses set to 1.",
    ),
    file(
        "sync{ default.rsyncssh, source='@/s', target='h:/t', host='h', targetdir='/t' }",
        "Parameter \"target\" unknown.",
    ),
    file("settings{ inotifyMode='Close' }", "Nothing to watch!"),
    Wrong {
        text: Some("settings{ inotifyMode='Close' } sync{ default.rsync, source='@/s', target='@/t' }"),
        arguments: &["-nodaemon"],
        says: "'Close' not a valid inotfiyMode.",
        status: 255,
    },
    Wrong {
        text: Some("settings{ logfacility='moon' } sync{ default.rsync, source='@/s', target='@/t' }"),
        arguments: &[],
        says: "Logging facility 'moon' unknown.",
        status: 255,
    },
    Wrong {
        text: Some(SYNC),
        arguments: &["-nodaemon", "-logfile", "/no/such/dir/log"],
        says: "Cannot open logfile [/no/such/dir/log]",
        status: 255,
    },
    Wrong { text: Some(SYNC), arguments: &["-nodaemon", "-delay", "soon"], says: "", status: 255 },
];

#[test]
fn what_is_wrong_is_said_in_the_words_and_with_the_status_of_lsyncd() {
    let mut failures = Vec::new();
    for wrong in &ALL {
        for speil in [true, false] {
            let scene = Scene::new();
            let mut arguments: Vec<String> = wrong.arguments.iter().map(|word| (*word).to_owned()).collect();
            if let Some(text) = wrong.text {
                arguments.push(scene.configure(text).to_string_lossy().into_owned());
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let outcome = scene.start(speil, &arguments).wait();
            let says = wrong.says.replace("@/", &scene.path("").to_string_lossy());
            // The place of a line is lost in lsyncd now and then, and its file's name shortened.
            let bare = says.rsplit(".lua:").next().unwrap_or_default().trim_start_matches("1: ");
            let text = [outcome.stderr.as_str(), &outcome.stdout].join("\n");
            let wanted = if speil { says.as_str() } else { bare };
            if outcome.code() != wrong.status || !text.contains(wanted) {
                let who = if speil { "speil" } else { "lsyncd" };
                failures.push(format!(
                    "{who} {:?} {:?}: {} {text}",
                    wrong.arguments,
                    wrong.text,
                    outcome.code()
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_misspelt_name_is_answered_with_the_right_one() {
    for (text, says) in [
        ("settings{ statusfile='@/x' }", "did you mean \"statusFile\"?"),
        ("sync{ default.rsync, source='@/s', traget='@/t' }", "did you mean \"target\"?"),
        (
            "sync{ default.rsync, source='@/s', target='@/t', rsync={ compres=true } }",
            "did you mean \"compress\"?",
        ),
    ] {
        let scene = Scene::new();
        let file = scene.configure(text);
        let outcome = scene.start(true, &["-nodaemon", &file.to_string_lossy()]).wait();
        assert_eq!(outcome.code(), 255);
        assert!(outcome.stderr.contains(says), "{outcome:?}");
    }
}

#[test]
fn syncs_of_the_command_line_run_without_a_file() {
    let scene = Scene::new();
    fs::write(scene.path("s/f"), "1").unwrap();
    let (source, target) = (scene.path("s").display().to_string(), scene.path("t").display().to_string());
    for (layer, engine) in [("-rsync", "native"), ("-direct", "native"), ("-rsync", "rsync")] {
        let guard = scene.start(true, &["-nodaemon", "-engine", engine, layer, &source, &target]);
        guard.wait_for_line("finished");
        assert!(Path::new(&target).join("f").exists(), "{layer} {engine}");
        assert_eq!(guard.terminate().code(), 143);
        fs::remove_file(Path::new(&target).join("f")).unwrap();
        let outcome =
            scene.start(true, &["-nodaemon", "-onepass", "-engine", engine, layer, &source, &target]).wait();
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        assert!(Path::new(&target).join("f").exists(), "{layer} {engine} in one pass");
        fs::remove_file(Path::new(&target).join("f")).unwrap();
    }
    let script = scene.path("script.lua");
    fs::write(&script, "log('Normal', 'the script ran')").unwrap();
    let guard =
        scene.start(true, &["--nodaemon", "--script", &script.to_string_lossy(), "-rsync", &source, &target]);
    guard.wait_for_error_line("the script ran");
    let options = "-p 1 -o ConnectTimeout=1";
    let outcome = scene
        .start(
            true,
            &["-nodaemon", "-engine", "rsync", "-sshopts", options, "-rsyncssh", &source, "127.0.0.1", "/x"],
        )
        .wait();
    assert_eq!(outcome.code(), 255);
    assert!(outcome.stderr.contains("port 1: Connection refused"), "{outcome:?}");
}
