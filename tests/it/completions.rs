//! Completions in the shells themselves: what Tab makes of a line in bash, zsh and fish.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::command::{Background, Environment, SPEIL, eventually};
use crate::support::stand::Stand;
use crate::support::terminal::Terminal;

/// A home with a script of each shell, `speil` in a directory of programs, and a host in ssh's configuration.
fn home() -> Environment {
    let environment = Environment::new();
    let home = environment.home();
    for dir in ["bin", ".ssh/conf.d", "tree/below"] {
        fs::create_dir_all(home.join(dir)).unwrap();
    }
    symlink(SPEIL, home.join("bin/speil")).unwrap();
    fs::write(home.join("mine.lua"), "").unwrap();
    fs::write(home.join(".ssh/config"), "Include conf.d/*\nHost bergen *.example\n  User root\n").unwrap();
    fs::write(home.join(".ssh/conf.d/more"), "host=oslo\n").unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = environment.run(["completions", shell]).succeeded().stdout;
        fs::write(home.join(shell), script + "\n").unwrap();
    }
    environment
}

/// Lines as they are typed up to Tab, and what they become.
const LINES: [(&str, &str); 9] = [
    ("speil stat", "speil status"),
    ("speil sync --max-del", "speil sync --max-delete"),
    ("speil mirror --watch fan", "speil mirror --watch fanotify"),
    ("speil mirror --watch=fan", "speil mirror --watch=fanotify"),
    ("speil sync --durability b", "speil sync --durability batch"),
    ("speil log-level uploads deb", "speil log-level uploads debug"),
    ("speil check min", "speil check mine.lua"),
    ("speil sync -a tree/ root@ber", "speil sync -a tree/ root@bergen:"),
    ("speil mirror tr", "speil mirror tree/"),
];

/// Has an interactive shell complete each line, and print it in place of running it.
fn in_shell(start: &str, ready: &str) {
    let environment = home();
    let path = format!("PATH={}/bin:$PATH", environment.home().display());
    let mut terminal = Terminal::start(&environment, &format!("cd && {path} exec {start}"));
    terminal.types(ready);
    let _ = terminal.run.wait_for_line("ready:yes");
    for (typed, whole) in LINES {
        // Tab; then, from the start of the line: print it in place of running it.
        terminal.types(&format!("{typed}\t\u{1}echo \n"));
        let is_whole = |line: &String| line.trim_end().ends_with(whole);
        eventually(&format!("{typed:?} becomes {whole:?} in {start}"), || {
            terminal.run.stdout().iter().any(is_whole)
        });
    }
}

#[test]
fn bash_completes_at_a_terminal() {
    in_shell("bash --norc --noprofile -i", "source ~/bash; a=yes; echo ready:$a\n");
}

#[test]
fn zsh_completes_at_a_terminal() {
    in_shell(
        "zsh -f -i",
        "bindkey -e; unsetopt prompt_cr auto_remove_slash; autoload -Uz compinit; compinit -D; source ~/zsh; a=yes; echo ready:$a\n",
    );
}

#[test]
fn fish_completes() {
    let environment = home();
    for (typed, whole) in LINES {
        let mut command = environment.command("fish");
        let ask = format!("set -x PATH ~/bin $PATH; cd; source ~/fish; complete -C '{typed}'");
        command.args(["--no-config", "-c", &ask]);
        let said = Background::spawn(command).wait().succeeded().stdout;
        let word = whole.rsplit(' ').next().unwrap();
        let words: Vec<&str> = said.lines().filter_map(|line| line.split('\t').next()).collect();
        assert!(words.contains(&word), "{typed}: {said}");
    }
}

#[test]
fn syncs_and_targets_are_those_of_the_running_daemon() {
    let stand = Stand::new();
    let _mirror = stand.guarded_mirror(&["copy"], &[]);
    let control = stand.control().display().to_string();
    let environment = Environment::new();
    let complete = |words: &[&str]| {
        let all = ["complete", "--"].iter().chain(words).copied();
        environment.run(all).succeeded().stdout
    };
    let sync = complete(&["pause", "--control", &control, ""]);
    assert!(!sync.is_empty() && !sync.contains(['\n', ':']), "{sync}");
    assert_eq!(complete(&["retry", "--control", &control, &sync, ""]), "127.0.0.1");
    assert_eq!(complete(&["wait", "--control", &control, "--targets", "12"]), "127.0.0.1");
    assert_eq!(complete(&["pause", "--control", "/no/such", ""]), "", "no daemon is no error");
}

#[test]
fn the_scripts_are_free_of_errors() {
    let environment = home();
    for shell in ["bash", "zsh", "fish"] {
        let mut command = environment.command(shell);
        command.arg("-n").arg(Path::new(environment.home()).join(shell));
        assert_eq!(Background::spawn(command).wait().succeeded().stderr, "", "{shell}");
    }
}
