//! `speil check` of lsyncd's configurations.

use super::scene::Scene;

const TEXT: &str = "settings { logfile = '@/log.txt', statusFile = '@/status' }
sync { default.rsync, source = '@/s/', target = 'root@192.168.1.10:/var/www/html/', exclude = { '*.bak' },
       rsync = { compress = true, archive = true, rsh = '/usr/bin/ssh -p 22 -o StrictHostKeyChecking=no' } }
sync { default.rsyncssh, source = '@/s/', host = 'h', targetdir = '/d', rsync = { inplace = true } }
sync { source = '@/s/', target = 'x', onCreate = 'cp ^sourcePath \"/y/\"^path' }
sync { default.direct, source = '@/s/', target = '@/t', engine = 'rsync' }";

fn check(scene: &Scene, arguments: &[&str]) -> (i32, String, String) {
    let file = scene.configure(TEXT);
    let mut all = vec!["check"];
    all.extend(arguments);
    let file = file.to_string_lossy().into_owned();
    all.push(&file);
    let outcome = scene.environment.run(all);
    let base = scene.path("").to_string_lossy().into_owned();
    (outcome.code(), outcome.stdout.replace(&base, "@/"), outcome.stderr)
}

#[test]
fn check_says_for_each_sync_the_engine_the_meaning_and_what_is_risky() {
    let scene = Scene::new();
    let (code, text, said) = check(&scene, &[]);
    assert_eq!((code, said.as_str()), (0, ""), "{text}");
    let blocks: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(blocks.len(), 4, "{text}");
    for (block, wanted) in [
        (0, "Sync1: @/s/ to root@192.168.1.10:/var/www/html/"),
        (
            0,
            "engine native, as every option maps, where speil is in the PATH at root@192.168.1.10; else rsync",
        ),
        (0, "warning: Sync1: StrictHostKeyChecking=no: whoever answers for the host gets the files"),
        (
            0,
            "acts when the oldest change is 15 s old, or 1000 wait, with at most 1 children; deletes what the source lacks",
        ),
        (0, "write StrictHostKeyChecking=accept-new"),
        (0, "--ignore-errors: what is below a source directory that cannot be read is deleted"),
        (0, "exit code 23 (some files were not transferred) counts as success; write exitcodes"),
        (0, "whole seconds count as equal"),
        (1, "engine rsync: speil has nothing like rsync.inplace"),
        (1, "inplace: who reads the target sees half of a file while it is written; leave it out"),
        (2, "engine runs its own commands and functions"),
        (2, "without exitcodes every exit code but 0 ends the sync"),
        (3, "engine rsync, as configured"),
    ] {
        assert!(blocks[block].contains(wanted), "{wanted}:\n{}", blocks[block]);
    }
    assert!(!blocks[1].contains("natively:") && !blocks[3].contains("natively:"));
}

#[test]
fn check_diff_shows_what_lsyncd_would_run_beside_what_speil_will_do() {
    let scene = Scene::new();
    let (code, text, said) = check(&scene, &["--diff"]);
    assert_eq!((code, said.as_str()), (0, ""), "{text}");
    for wanted in [
        "lsyncd, first pass: /usr/bin/rsync --exclude-from=- --delete --ignore-errors -zglopstD \
         '--rsh=/usr/bin/ssh -p 22 -o StrictHostKeyChecking=no' -r @/s/ root@192.168.1.10:/var/www/html/\n      reads: *.bak\n",
        "speil, first pass: compares sizes, times and metadata by digests, sends what differs, then deletes\n    \
         speil, first pass: or the same",
        "--from0 --include-from=- '--exclude=*' @/s/ h:/d/\n      reads: /DIR/FILE  /DIR/  /\n    speil, a change: the same",
        "lsyncd, a move: /usr/bin/ssh h mv ",
        "lsyncd, create: /bin/sh -c 'cp \"$2\" \"/y/\"\"$1\"' /bin/sh DIR/FILE @/s//DIR/FILE\n    speil, create: the same",
        "lsyncd, delete: /bin/rm -rf -- @/t//DIR/FILE",
    ] {
        assert!(text.contains(wanted), "{wanted}\n\n{text}");
    }
}

#[test]
fn check_of_a_broken_configuration_says_what_lsyncd_would_say() {
    let scene = Scene::new();
    let file = scene.configure("sync { default.rsync, source = '@/s', target = 'x', foo = 1 }");
    let outcome = scene.environment.run(["check", &file.to_string_lossy()]);
    assert_eq!(outcome.code(), 1);
    assert!(outcome.stderr.contains("Parameter \"foo\" unknown."), "{outcome:?}");
}
