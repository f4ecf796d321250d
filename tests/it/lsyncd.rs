//! speil in lsyncd's place: the same configurations, against recorders in place of rsync and ssh.
//!
//! Where `lsyncd` is installed it is driven beside speil, and both must make the same calls.

mod cases;
mod check;
mod engine;
mod guide;
mod lua;
mod messages;
mod native;
mod scene;
mod scripts;
mod traceless;

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use self::scene::{Scene, call, sorted_cluster};
use crate::support::command::eventually;
use crate::support::process;

#[test]
fn rsync_is_called_word_for_word_as_lsyncd_calls_it() {
    let text = "sync{ default.rsync, source='@/s', target='@/t', delay=2, exclude={'*.bak','/x'},
        rsync={ binary='@/recorder', archive=true, compress=true, _extra={'--one'}, bwlimit=3 } }";
    let edit = |source: &Path| {
        fs::create_dir_all(source.join("d/e")).unwrap();
        for name in ["n", "d/e/f", "what?", "x.bak"] {
            fs::write(source.join(name), "1").unwrap();
        }
        fs::remove_dir(source.join("a")).unwrap();
    };
    let list = ["/", "/n", "/d/", "/d/e/", "/d/e/f", "/what\\?", "/a/***", "/a/"];
    for calls in Scene::calls_of_each(text, edit, 2) {
        assert_eq!(
            calls,
            [
                call(
                    "--exclude-from=- --delete --ignore-errors -zlspgotD --one --bwlimit=3 -r @/s/ @/t/",
                    &["*.bak", "/x"]
                ),
                call(
                    "-zlspgotD --one --bwlimit=3 -r --delete --ignore-errors --force --from0 --include-from=- \
                     --exclude=* @/s/ @/t/",
                    &list
                ),
            ]
        );
    }
}

#[test]
fn the_configuration_of_the_2013_guide_runs_unchanged() {
    let text = "settings = {
        logfile = '@/lsyncd.log',
        statusFile = '@/lsyncd.status',
        statusInterval = 1,
        nodaemon = true,
    }
    sync {
        default.rsync,
        source = '@/s/',
        target = 'standby:/var/www/html/',
        delay = 1,
        rsync = { binary = '@/recorder', compress = true, acls = true, verbose = true, rsh = '/usr/bin/ssh -p 22 -o StrictHostKeyChecking=no' },
    }";
    let scene = Scene::new();
    let file = scene.configure(text);
    let guard = scene.start(true, &[&file.to_string_lossy()]);
    guard.wait_for_line("finished");
    fs::write(scene.path("s/new"), "1").unwrap();
    eventually("both calls", || scene.calls().len() == 2);
    let rsh = "--rsh=/usr/bin/ssh -p 22 -o StrictHostKeyChecking=no";
    let calls = scene.calls();
    for words in [&calls[0].words, &calls[1].words] {
        assert!(words.contains(&rsh.to_owned()), "{words:?}");
        assert!(words.contains(&sorted_cluster("-Avzlts".to_owned())), "{words:?}");
        assert_eq!(words.last().unwrap(), "standby:/var/www/html/");
    }
    eventually("a status without delays", || {
        fs::read_to_string(scene.path("lsyncd.status")).is_ok_and(|text| {
            text.starts_with("Lsyncd status report at ")
                && text.contains("\nSync1 source=")
                && text.contains("\nThere are 0 delays\n")
                && text.contains("\nInotify watching 2 directories\n")
        })
    });
    process::send(guard.pid(), Signal::TERM);
    assert_eq!(guard.wait().code(), 143);
    let log = fs::read_to_string(scene.path("lsyncd.log")).unwrap();
    assert!(log.contains(" Normal: --- Startup ---\n"), "{log}");
    assert!(log.contains(" Normal: --- TERM signal, fading ---\n"), "{log}");
}

#[test]
fn moves_go_through_ssh() {
    let text = "sync{ default.rsyncssh, source='@/s', host='h', targetdir=\"/it's\", delay=0,
        rsync={ binary='@/recorder' }, ssh={ binary='@/recorder', port=23, identityFile='/k' } }";
    let edit = |source: &Path| fs::rename(source.join("a"), source.join("b")).unwrap();
    for calls in Scene::calls_of_each(text, edit, 2) {
        let name = |name: &str| format!("'/it'\"'\"'s/{name}'");
        let (from, to) = (name("a/"), name("b/"));
        assert_eq!(calls[1].words, ["-i", "/k", "-p", "23", "h", "mv", &from, &to, "||", "rm", "-fr", &from]);
        assert!(calls[0].words.contains(&"--rsh=ssh -i /k -p 23".to_owned()), "{calls:?}");
        assert_eq!(calls[0].words.last().unwrap(), "h:/it's/");
    }
}

#[test]
fn direct_copies_moves_and_removes() {
    let scene = Scene::new();
    let file = scene.configure("sync{ default.direct, source='@/s', target='@/t', delay=0 }");
    let guard = scene.start(true, &["--nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("finished");
    fs::write(scene.path("s/f"), "text").unwrap();
    eventually("the copy", || fs::read(scene.path("t/f")).is_ok_and(|text| text == b"text"));
    fs::rename(scene.path("s/f"), scene.path("s/g")).unwrap();
    eventually("the move", || scene.path("t/g").exists() && !scene.path("t/f").exists());
    fs::create_dir(scene.path("s/dir")).unwrap();
    eventually("the directory", || scene.path("t/dir").is_dir());
    fs::remove_file(scene.path("s/g")).unwrap();
    eventually("the removal", || !scene.path("t/g").exists());
}

#[test]
fn a_function_that_hangs_keeps_only_its_own_sync_waiting() {
    let scene = Scene::new();
    let file = scene.configure(
        "sync{ source='@/s', onCreate=function(event) while true do end end }
         sync{ source='@/s', onCreate=function(event) log('Normal', 'heard of ', event.pathname) end }",
    );
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    let mut count = 0;
    for round in ["first", "second"] {
        eventually("the other sync's word", || {
            // The first ones may come before the watches stand.
            count += 1;
            fs::write(scene.path("s").join(format!("{round}{count}")), "").unwrap();
            guard.stdout().iter().any(|line| line.contains(&format!("heard of {round}")))
        });
    }
    guard.wait_for_line("has been running");
    process::send(guard.pid(), Signal::INT);
    assert_eq!(guard.wait().code(), 130);
}

#[test]
fn an_exit_code_that_means_again_is_retried_and_one_that_means_die_ends_all() {
    for (code, insist, ends) in [(12, true, false), (12, false, true), (1, true, true)] {
        let scene = Scene::new();
        scene.recorder("failing", code);
        let file = scene.configure(
            "sync{ default.rsync, source='@/s', target='@/t', rsync={ binary='@/failing' }, delay=0 }",
        );
        let file = file.to_string_lossy();
        let arguments: &[&str] =
            if insist { &["-nodaemon", "-insist", &file] } else { &["-nodaemon", &file] };
        let guard = scene.start(true, arguments);
        if ends {
            assert_eq!(guard.wait().code(), 255);
            assert_eq!(scene.calls().len(), 1);
        } else {
            eventually("a second try", || scene.calls().len() >= 2);
        }
    }
}

#[test]
fn hup_rereads_the_configuration_and_passes_over_everything_again() {
    let scene = Scene::new();
    let text = "sync{ default.rsync, source='@/s', target='@/t', rsync={ binary='@/recorder' } }";
    let file = scene.configure(text);
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("finished");
    scene.configure(&text.replace("@/t'", "@/other'"));
    process::send(guard.pid(), Signal::HUP);
    eventually("the second pass", || scene.calls().len() == 2);
    assert_eq!(scene.calls()[1].words.last().unwrap(), "@/other/");
}

#[test]
fn the_daemon_locks_its_pidfile_and_takes_it_away() {
    let scene = Scene::new();
    let file = scene.configure(
        "settings{ pidfile='@/pid', logfile='@/log.txt' }
         sync{ default.rsync, source='@/s', target='@/t', rsync={ binary='@/recorder' } }",
    );
    let file = file.to_string_lossy().into_owned();
    assert_eq!(scene.start(true, &[&file]).wait().code(), 0);
    let read = || fs::read_to_string(scene.path("pid")).ok()?.trim().parse::<u32>().ok();
    eventually("the pidfile", || read().is_some());
    let pid = read().unwrap();
    eventually("the first pass", || scene.calls().len() == 1);
    assert_eq!(scene.start(true, &[&file]).wait().code(), 0);
    let log = || fs::read_to_string(scene.path("log.txt")).unwrap_or_default();
    eventually("the refusal", || log().contains("Cannot lock pidfile"));
    assert_eq!(read(), Some(pid));
    process::send(pid, Signal::TERM);
    eventually("the end", || !process::is_running(pid) && !scene.path("pid").exists());
}

#[test]
fn refusals_are_those_of_lsyncd() {
    let scene = Scene::new();
    let broken = scene.configure("sync{ default.rsync, source='@/s', target='x', foo=1 }");
    let broken = broken.to_string_lossy().into_owned();
    for (arguments, code) in
        [(vec![broken.as_str()], 255), (vec!["-x"], 255), (vec!["-version"], 0), (vec![], 255)]
    {
        let outcome = scene.start(true, &arguments).wait();
        assert_eq!(outcome.code(), code, "{arguments:?}");
        if Path::new("/usr/bin/lsyncd").exists() {
            let theirs = scene.start(false, &arguments).wait();
            assert_eq!(theirs.code(), code, "{arguments:?}");
            // Theirs loses the line of the call now and then.
            let first = |text: &str| {
                let line = text.lines().next().unwrap_or_default();
                line.rsplit(".lua:").next().unwrap_or_default().trim_start_matches("1:").trim().to_owned()
            };
            assert_eq!(first(&outcome.stderr), first(&theirs.stderr));
        }
    }
}
