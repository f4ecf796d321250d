//! What the functions of a configuration are given and may call, each seen by its effect.
//!
//! A claim that the installed lsyncd knows is tried on it as well: the log must say the same.

use std::fs;
use std::time::{Duration, Instant};

use super::cases::{shell, watches};
use super::scene::Scene;
use crate::support::command::{Background, eventually, holds_within};

/// Who runs a script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// speil and the installed lsyncd.
    Both,
    /// speil alone: newer than the installed lsyncd, or better.
    Speil,
}

/// Returns what a program has said so far, without the time of day in front.
fn said(guard: &Background) -> Vec<String> {
    let lines = [guard.stdout(), guard.stderr()].concat();
    lines.iter().map(|line| line.split_once(' ').map_or(line.as_str(), |(_, rest)| rest).to_owned()).collect()
}

/// Runs `text`, then each line for sh in the source after the lines that were expected before it.
fn check(who: Who, text: &str, steps: &[(&str, &[&str])]) {
    for speil in [true, false] {
        if !speil && who == Who::Speil {
            continue;
        }
        let scene = Scene::new();
        scene.stand_in("hook", "0");
        let file = scene.configure(text);
        let guard = scene.start(speil, &["-nodaemon", "-log", "Told", &file.to_string_lossy()]);
        let base = scene.path("").to_string_lossy().into_owned();
        assert!(
            holds_within(Duration::from_secs(30), || watches(guard.pid(), &scene.path("s/a"))
                || !guard.is_running()),
            "{:?}",
            said(&guard)
        );
        for (line, expected) in steps {
            shell(&scene.path("s"), if line.is_empty() { "true" } else { line });
            for wanted in *expected {
                let wanted = wanted.replace("@/", &base);
                let there = || said(&guard).iter().any(|line| *line == format!("Told: {wanted}"));
                assert!(
                    holds_within(Duration::from_secs(30), || there() || !guard.is_running()) && there(),
                    "{} after {line:?} never said {wanted:?}:\n{}",
                    if speil { "speil" } else { "lsyncd" },
                    said(&guard).join("\n")
                );
            }
        }
    }
}

#[test]
fn events_have_the_fields_of_lsyncd() {
    let text = "
        local fields = { 'etype', 'status', 'isdir', 'isList', 'name', 'basename', 'path', 'pathname', 'pathdir',
            'source', 'sourcePath', 'sourcePathname', 'sourcePathdir', 'target', 'targetPath', 'targetPathname',
            'targetPathdir', 'move' }
        local function show(event)
          for _, field in ipairs(fields) do
            log('Told', event.etype, ' ', field, '=', event[field])
          end
          event.mine = 'kept'
          log('Told', 'mine=', rawget(event, 'mine'), ' config=', event.config.target, ' inlet=', type(event.inlet))
          log('Told', 'unknown ', pcall(function() return event.nonsense end))
        end
        sync { source = '@/s', target = '@/t/', onCreate = show,
          onMove = function(origin, destination)
            log('Told', 'move ', origin.move, ' ', origin.path, ' ', destination.move, ' ', destination.path,
              ' ', destination.sourcePath, ' ', destination.targetPathdir)
          end }";
    check(
        Who::Both,
        text,
        &[
            (
                "mkdir a/d",
                &[
                    "Create etype=Create",
                    "Create status=wait",
                    "Create isdir=(true)",
                    "Create isList=(false)",
                    "Create name=d/",
                    "Create basename=d",
                    "Create path=a/d/",
                    "Create pathname=a/d",
                    "Create pathdir=a/",
                    "Create source=@/s/",
                    "Create sourcePath=@/s//a/d/",
                    "Create sourcePathname=@/s//a/d",
                    "Create sourcePathdir=@/s//a/",
                    "Create target=@/t/",
                    "Create targetPath=@/t//a/d/",
                    "Create targetPathname=@/t//a/d",
                    "Create targetPathdir=@/t//a/",
                    "Create move=(nil)",
                    "mine=kept config=@/t/ inlet=table",
                ],
            ),
            ("mv a/d b", &["move Fr a/d/ To b/ @/s//b/ @/t//"]),
        ],
    );
}

#[test]
fn the_first_event_is_given_to_init_and_discarded() {
    check(
        Who::Both,
        "sync { source = '@/s', init = function(event)
             log('Told', event.etype, ' [', event.path, '] ', event.name, ' ', event.isdir)
             event.inlet.discardEvent(event)
           end, onCreate = function(event) log('Told', 'after ', event.pathname) end }",
        &[("", &["Init [] (nil) (false)"]), ("mkdir d", &["after d"])],
    );
}

#[test]
fn the_inlet_gives_the_same_event_until_it_is_dealt_with() {
    check(
        Who::Both,
        "sync { source = '@/s', target = 'x', action = function(inlet)
             local first, again = inlet.getEvent(), inlet.getEvent()
             log('Told', first == again, ' ', inlet.getConfig().target, ' ', first.pathname)
             inlet.discardEvent(first)
           end }",
        &[("mkdir d", &["(true) x d"]), ("rmdir d", &["(true) x d"])],
    );
}

#[test]
fn excludes_and_filters_change_at_run_time() {
    check(
        Who::Both,
        "sync { source = '@/s', checkgauge = { exclude = true }, exclude = { 'x' }, action = function(inlet)
             local event = inlet.getEvent()
             log('Told', event.etype, ' ', event.pathname, ' ', #inlet.getExcludes())
             if event.pathname == 'more' then inlet.addExclude('y') end
             if event.pathname == 'less' then inlet.rmExclude('x') end
             inlet.discardEvent(event)
           end }",
        &[
            ("mkdir x y", &["Create y 1"]),
            ("mkdir more", &["Create more 1"]),
            ("rmdir y; mkdir less", &["Create less 2"]),
            ("rmdir less; rmdir x; mkdir x", &["Create x 1"]),
        ],
    );
    check(
        Who::Speil,
        "sync { source = '@/s', action = function(inlet)
             local event = inlet.getEvent()
             log('Told', event.pathname, ' ', inlet.hasFilters(), ' ', #inlet.getFilters())
             inlet.appendFilter('- no*')
             inlet.discardEvent(event)
           end }",
        &[("mkdir one", &["one (false) 0"]), ("mkdir no1 two", &["two (true) 1"])],
    );
}

#[test]
fn lists_are_batches_with_paths_of_the_writers_choice() {
    check(
        Who::Both,
        "sync { source = '@/s', target = '@/t', delay = 0.5, action = function(inlet)
             local list = inlet.getEvents(function(event)
               if event.pathname == 'stop' then return 'break' end
               return event.pathname ~= 'skip'
             end)
             local plain = list.getPaths()
             local shaped = list.getPaths(function(etype, one, two) return etype .. one end)
             table.sort(plain)
             table.sort(shaped)
             log('Told', list.isList, ' ', list.config.target, ' ', table.concat(plain, ','), ' ',
               table.concat(shaped, ','))
             spawn(list, '/bin/true')
           end }",
        &[("mkdir one two skip", &["(true) @/t /one/,/two/ Create/one/,Create/two/"])],
    );
    check(
        Who::Speil,
        "sync { source = '@/s', delay = 0.5, action = function(inlet)
             local list = inlet.getEvents()
             log('Told', list.size(), ' ', list.getList()[1].pathname)
             spawn(list, '/bin/true')
           end }",
        &[("mkdir one two", &["2 one"])],
    );
}

#[test]
fn spawned_programs_get_their_words_and_their_input() {
    for speil in [true, false] {
        let scene = Scene::new();
        scene.stand_in("hook", "0");
        let file = scene.configure(
            "sync { source = '@/s', target = '@/t',
               onCreate = function(event)
                 spawn(event, '@/bin/hook', '<', 'to be read', event.pathname, { 'in', 'deeper', 7 }, nil, 'last')
               end,
               onDelete = function(event) spawnShell(event, '@/bin/hook \"$#\" \"$1\" \"$2\"', event.pathname, 'x y') end }",
        );
        let guard = scene.start(speil, &["-nodaemon", &file.to_string_lossy()]);
        eventually("the watches", || watches(guard.pid(), &scene.path("s/a")));
        shell(&scene.path("s"), "mkdir d");
        eventually("the first call", || scene.count() == 1);
        shell(&scene.path("s"), "rmdir d");
        eventually("the second call", || scene.count() == 2);
        let calls = scene.calls();
        assert_eq!(calls[0].words, ["hook", "d", "in", "deeper", "7", "last"]);
        assert!(calls[0].input.contains("to be read"), "{calls:?}");
        assert_eq!(calls[1].words, ["hook", "2", "d", "x y"]);
    }
}

#[test]
fn an_alarm_calls_once_with_what_it_was_given() {
    check(
        Who::Both,
        "alarm(now() + 0.1, function(stamp, extra) log('Told', 'rang ', extra, ' ', stamp <= now()) end, 'first')
         sync { source = '@/s', onCreate = function(event)
             local before = now()
             alarm(before + 0.2, function(stamp, extra)
               log('Told', extra, ' ', now() - before >= 0.2, ' ', before < now(), ' ', before == before + 0)
             end, 'second')
           end }",
        &[("mkdir d", &["rang first (true)", "second (true) (true) (true)"])],
    );
}

#[test]
fn a_descriptor_that_is_observed_calls_when_it_can_be_read() {
    // A descriptor is had from the process itself: 0 is a pipe that this test writes to.
    let scene = Scene::new();
    let file = scene.configure(
        "sync { source = '@/s', init = function(event)
             event.inlet.discardEvent(event)
             observefd(0, function(fd)
               log('Told', 'read ', io.read('l'))
               nonobservefd(0)
             end)
           end }",
    );
    let mut command = scene.environment.command(crate::support::command::SPEIL);
    command.args(["lsyncd", "-nodaemon", "-log", "Told", &file.to_string_lossy()]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    command.stdin(reader);
    let guard = Background::spawn(command);
    guard.wait_for_line("Startup");
    std::io::Write::write_all(&mut writer, b"a line\nanother\n").unwrap();
    guard.wait_for_line("Told: read a line");
    assert!(!guard.stdout().iter().any(|line| line.contains("another")));
}

#[test]
fn names_of_older_and_newer_lua_are_there() {
    check(
        Who::Speil,
        "local a, b = unpack({ 1, 2 })
         sync { source = '@/s', target = 'x' .. 10 / 2, onCreate = function(event)
             log('Told', a + b, ' ', loadstring('return 7')(), ' ', table.getn({ 1, 2, 3 }), ' ', math.pow(2, 3), ' ',
           table.maxn({ 5, [9] = 1 }), ' ', table.contains({ 'x' }, 'x'))
             log('Told', string.starts('abc', 'ab'), string.ends('abc', 'bc'), ('abc'):starts('b'), ' ', lsyncd_version)
             local names = {}
             for name, isdir in pairs(readdir(event.source)) do names[#names + 1] = name .. tostring(isdir) end
             table.sort(names)
             log('Told', event.target, ' ', table.concat(names, ' '), ' ', readdir('/no/such'))
           end }",
        &[("touch f; mkdir d", &["3 7 3 8.0 9 (true)", "(true)(true)(false) 2.2.3", "x5.0 atrue dtrue ffalse (nil)"])],
    );
}

#[test]
fn queues_keep_their_positions() {
    check(
        Who::Both,
        "local queue = Queue.new()
         sync { source = '@/s', onCreate = function(event)
             local said = {}
             local function note(...) for _, value in ipairs({ ... }) do said[#said + 1] = tostring(value) end end
             note(queue:push('a'), queue:push('b'), queue:push('c'))
             queue:replace(3, 'z')
             queue:remove(2)
             for at, value in queue:qpairs() do note(at, value) end
             for at, value in queue:qpairsReverse() do note(at, value) end
             note(queue:first(), queue:last(), queue:size(), queue[3])
             queue:remove(1) queue:remove(3)
             note(queue:size(), (pcall(queue.remove, queue, 1)), (pcall(queue.replace, queue, 1, 'x')),
               (pcall(function() queue.x = 1 end)), queue:push('n'))
             log('Told', table.concat(said, ' '))
           end }",
        &[("mkdir d", &["1 2 3 1 a 3 z 3 z 1 a a z 2 z 0 false false false 1"])],
    );
}

#[test]
fn without_sub_directories_only_the_top_is_watched() {
    for speil in [true, false] {
        let scene = Scene::new();
        let file = scene.configure(
            "sync { source = '@/s', subdirs = false, checkgauge = { subdirs = true },
               onCreate = function(event) log('Told', event.pathname) end }",
        );
        let guard = scene.start(speil, &["-nodaemon", "-log", "Told", &file.to_string_lossy()]);
        eventually("the top is watched", || watches(guard.pid(), &scene.path("s")));
        shell(&scene.path("s"), "touch a/inner; mv a/inner a/moved; touch f");
        eventually("the file in the top", || said(&guard).iter().any(|line| line == "Told: f"));
        assert!(!said(&guard).iter().any(|line| line.contains("a/")), "{:?}", said(&guard));
        assert!(!watches(guard.pid(), &scene.path("s/a")));
    }
}

#[test]
fn prepare_may_change_and_refuse_a_configuration() {
    check(
        Who::Both,
        "sync { source = '@/s', target = 'before', prepare = function(config, level)
             config.target = config.target .. ' and after'
           end, onCreate = function(event) log('Told', event.target) end }",
        &[("mkdir d", &["before and after"])],
    );
}

#[test]
fn collect_decides_what_follows_and_retries_back_off() {
    let scene = Scene::new();
    scene.stand_in("hook", "3 3 4");
    let file = scene.configure(
        "local stamps = {}
         sync { source = '@/s', delay = 0,
           onCreate = function(event) stamps[#stamps + 1] = now() spawn(event, '@/bin/hook', event.pathname) end,
           collect = function(agent, code)
             log('Told', agent.isList, ' ', agent.pathname, ' ended with ', code)
             if code == 3 then return 'again' end
             log('Told', 'later each time: ', stamps[3] - stamps[2] > 1.5 * (stamps[2] - stamps[1]))
           end }",
    );
    let guard = scene.start(true, &["-nodaemon", "-log", "Told", &file.to_string_lossy()]);
    eventually("the watches", || watches(guard.pid(), &scene.path("s/a")));
    shell(&scene.path("s"), "mkdir d");
    guard.wait_for_line("(false) d ended with 4");
    guard.wait_for_line("later each time: (true)");
    assert_eq!(scene.count(), 3);
}

#[test]
fn one_sync_that_fails_ends_alone() {
    for (broken, why) in [
        ("onCreate = function(event) error('broken') end", "broken"),
        ("onCreate = '@/bin/hook ^pathname'", "Critical exitcode."),
        ("onCreate = function(event) x = 1 end", "GLOBALS are locked"),
    ] {
        let scene = Scene::new();
        scene.stand_in("hook", "9");
        let file = scene.configure(&format!(
            "sync {{ source = '@/s', {broken} }}
             sync {{ source = '@/s', onCreate = function(event) log('Told', 'fine ', event.pathname) end }}"
        ));
        let guard = scene.start(true, &["-nodaemon", "-log", "Told", &file.to_string_lossy()]);
        eventually("the watches", || watches(guard.pid(), &scene.path("s/a")));
        shell(&scene.path("s"), "mkdir one");
        guard.wait_for_error_line(why);
        guard.wait_for_error_line("Sync1: stopped, tried again in 300 s; other syncs go on");
        shell(&scene.path("s"), "mkdir two");
        guard.wait_for_line("fine two");
        assert!(guard.is_running());
    }
}

#[test]
fn a_child_that_is_killed_has_failed() {
    let scene = Scene::new();
    fs::write(scene.path("dies"), "#!/bin/sh\nls log/.n 2>/dev/null && exit 0\ntouch log/.n\nkill -9 $$\n")
        .unwrap();
    let file = scene.configure(
        "sync { source = '@/s', delay = 0, exitcodes = { [0] = 'ok' }, onCreate = '/bin/sh @/dies ^pathname' }",
    );
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    eventually("the watches", || watches(guard.pid(), &scene.path("s/a")));
    shell(&scene.path("s"), "mkdir d");
    guard.wait_for_line("was ended by signal 9, trying again");
    guard.wait_for_line("Finished Create on");
}

#[test]
fn no_more_children_run_than_are_allowed() {
    let scene = Scene::new();
    let script = "#!/bin/sh\nls @/now | wc -l >> @/counts\ntouch @/now/$$\nwhile test ! -e @/go; do sleep 0.02; done\nrm @/now/$$\n";
    fs::create_dir(scene.path("now")).unwrap();
    fs::write(scene.path("busy"), script.replace("@/", &scene.path("").to_string_lossy())).unwrap();
    let file = scene.configure(
        "settings { maxProcesses = 3 }
         sync { source = '@/s', onCreate = '/bin/sh @/busy ^pathname' }
         sync { source = '@/s', onCreate = '/bin/sh @/busy ^pathname' }",
    );
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    eventually("the watches", || watches(guard.pid(), &scene.path("s/a")));
    shell(&scene.path("s"), "mkdir 1 2 3 4 5 6");
    let running = || fs::read_dir(scene.path("now")).unwrap().count();
    eventually("three children", || running() == 3);
    fs::write(scene.path("go"), "").unwrap();
    let counts = || fs::read_to_string(scene.path("counts")).unwrap_or_default();
    eventually("all twelve", || counts().lines().count() == 12);
    assert!(counts().lines().all(|line| line.trim().parse::<u32>().unwrap() < 3), "{}", counts());
}

#[test]
fn a_crontab_passes_over_everything_by_the_wall_clock() {
    let scene = Scene::new();
    scene.stand_in("rsync", "0");
    let file = scene.configure(
        "sync { default.rsync, source = '@/s', target = '@/t', engine = 'rsync', crontab = { '* * * * * *' },
                rsync = { binary = '@/bin/rsync' } }
         sync { source = '@/s', crontab = { '*/2 * * * * *' }, full = function(event)
             log('Told', event.etype, ' is due')
             event.inlet.discardEvent(event)
           end }",
    );
    let guard = scene.start(true, &["-nodaemon", "-log", "Told", &file.to_string_lossy()]);
    guard.wait_for_line("Told: Full is due");
    eventually("three passes", || scene.count() >= 3);
    let calls = scene.calls();
    assert!(calls.iter().all(|call| call.words == calls[0].words), "{calls:?}");
}

#[test]
fn a_native_sync_compares_everything_at_the_times_of_its_crontab() {
    let scene = Scene::new();
    let file = scene.configure(
        "sync { default.rsync, source = '@/s', target = '@/t', reconcile = { interval = 'never' },
                crontab = { '* * * * * *' } }",
    );
    fs::write(scene.path("s/file"), "whole").unwrap();
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("Startup of");
    fs::remove_file(scene.path("t/file")).unwrap();
    eventually("the repair", || fs::read(scene.path("t/file")).is_ok_and(|text| text == b"whole"));
}

#[test]
fn a_full_event_may_be_asked_for() {
    check(
        Who::Speil,
        "sync { source = '@/s', onCreate = function(event) event.inlet.createFullEvent() end,
           full = function(event) log('Told', 'full ', event.etype) event.inlet.discardEvent(event) end }",
        &[("mkdir d", &["full Full"])],
    );
}

#[test]
fn a_sync_waits_for_its_tunnel_and_takes_its_port() {
    let scene = Scene::new();
    scene.stand_in("rsync", "0");
    let file = scene.configure(
        "sync { default.rsync, source = '@/s', target = 'rsync://^localhost:^localport/m', rsync = { binary = '@/bin/rsync' },
                tunnel = tunnel { command = { '/bin/sh', '-c', 'echo $0 > @/port; while test ! -e @/stop; do sleep 0.05; done', '^localport' },
                                  mode = 'pool', readyDelay = 0.3, retryDelay = 0.1, name = 'way' } }",
    );
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("tunnel way is up");
    eventually("the first pass", || scene.count() == 1);
    let port = fs::read_to_string(scene.path("port")).unwrap();
    assert_eq!(scene.calls()[0].words.last().unwrap(), &format!("rsync://localhost:{}/m/", port.trim()));
    fs::write(scene.path("stop"), "").unwrap();
    guard.wait_for_line("tunnel way is down");
    fs::remove_file(scene.path("stop")).unwrap();
    eventually("up again", || {
        guard.stdout().iter().filter(|line| line.contains("tunnel way is up")).count() == 2
    });
    assert_eq!(guard.terminate().code(), 143);
}

#[test]
fn large_files_have_an_rsync_of_their_own() {
    let scene = Scene::new();
    scene.stand_in("rsync", "0");
    let file = scene.configure(
        "sync { default.rsync, source = '@/s', target = '@/t', engine = 'rsync', delay = 1, maxProcesses = 3,
                batchSizeLimit = 1000, rsync = { binary = '@/bin/rsync' } }",
    );
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("finished");
    shell(
        &scene.path("s"),
        "head -c 2000 /dev/zero > big1; head -c 2000 /dev/zero > big2; echo 1 > s1; echo 1 > s2",
    );
    eventually("four calls", || scene.count() == 4);
    let mut lists: Vec<Vec<String>> =
        scene.calls()[1..].iter().map(|call| call.input.iter().cloned().collect()).collect();
    lists.sort();
    assert_eq!(lists, [vec!["/", "/big1"], vec!["/", "/big2"], vec!["/", "/s1", "/s2"]]);
}

#[test]
fn direct_carries_modes_times_owners_and_symlinks() {
    let scene = Scene::new();
    let file = scene
        .configure("sync { default.direct, source = '@/s', target = '@/t', delay = 0, engine = 'rsync' }");
    let guard = scene.start(true, &["-nodaemon", &file.to_string_lossy()]);
    guard.wait_for_line("finished");
    shell(&scene.path("s"), "echo 1 > f; ln -s f link; ln -s nowhere dangling");
    let read = |name: &str| fs::read_link(scene.path(name)).ok().map(|to| to.display().to_string());
    eventually("the links", || {
        read("t/link") == Some("f".into()) && read("t/dangling") == Some("nowhere".into())
    });
    eventually("the file", || scene.path("t/f").exists());
    shell(&scene.path("s"), "chmod 606 f; touch -d 2001-02-03T04:05:06Z f; chmod 705 a");
    use std::os::unix::fs::MetadataExt;
    let is =
        |name: &str, mode: u32| fs::metadata(scene.path(name)).is_ok_and(|meta| meta.mode() & 0o777 == mode);
    eventually("modes and times", || {
        is("t/f", 0o606)
            && is("t/a", 0o705)
            && fs::metadata(scene.path("t/f")).is_ok_and(|meta| meta.mtime() == 981_173_106)
    });
    if rustix::process::geteuid().is_root() {
        shell(&scene.path("s"), "chown 12:34 f");
        eventually("the owner", || {
            fs::metadata(scene.path("t/f")).is_ok_and(|meta| (meta.uid(), meta.gid()) == (12, 34))
        });
    }
}

#[test]
fn the_status_lists_every_watch_as_lsyncd_does() {
    let mut shown = Vec::new();
    for speil in [true, false] {
        let scene = Scene::new();
        scene.stand_in("rsync", "0");
        shell(&scene.path("s"), "mkdir -p a/b/c out/in");
        let file = scene.configure(
            "settings { statusFile = '@/status', statusInterval = 0.2 }
             sync { default.rsync, source = '@/s', target = '@/t', exclude = 'out', rsync = { binary = '@/bin/rsync' } }
             sync { default.rsync, source = '@/s/a', target = '@/u', filter = '- x', rsync = { binary = '@/bin/rsync' } }",
        );
        let mut arguments = vec!["-nodaemon", "-delay", "0.1"];
        if speil {
            arguments.extend(["-engine", "rsync"]);
        }
        let file = file.to_string_lossy().into_owned();
        arguments.push(&file);
        let guard = scene.start(speil, &arguments);
        eventually("both passes", || scene.count() == 2);
        shell(&scene.path("s"), "mkdir a/new");
        let touched = std::cell::Cell::new(None::<Instant>);
        let read = || {
            // lsyncd writes only when something happens; what happens all the time is no rest.
            if touched.get().is_none_or(|touched| touched.elapsed() > Duration::from_secs(1)) {
                shell(&scene.path("s"), "touch a/b/c");
                touched.set(Some(Instant::now()));
            }
            let text = fs::read_to_string(scene.path("status")).unwrap_or_default();
            let text = text.replace(&scene.path("").to_string_lossy().into_owned(), "@/");
            text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
        };
        eventually("a status at rest", || {
            let text = read();
            text.contains("a/new/") && text.matches("There are 0 delays").count() == 2
        });
        let mut text = String::new();
        eventually("a whole status", || {
            text = read();
            text.contains("a/new/") && text.matches("There are 0 delays").count() == 2
        });
        drop(guard);
        // Numbers are in the order in which watches were made, which is nobody's promise.
        let (head, list) = text.split_once("Inotify watching").unwrap();
        let mut list: Vec<String> = list
            .lines()
            .map(|line| line.split_once(": ").map_or(line, |(_, path)| path).to_owned())
            .collect();
        list.sort();
        shown.push((head.to_owned(), list));
    }
    assert_eq!(shown[0], shown[1]);
}
