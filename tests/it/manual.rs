//! Man pages that man(1) reads without a warning, completions that shells take.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::command::{Background, Environment, Outcome};

fn shell(program: &str, arguments: &[&str]) -> Outcome {
    let mut command = Environment::new().command(program);
    command.args(arguments);
    Background::spawn(command).wait()
}

#[test]
fn every_page_is_read_by_man_without_a_warning() {
    let env = Environment::new();
    let dir = tempfile::tempdir().unwrap();
    let _ = env.run([Path::new("manual"), dir.path()]).succeeded();
    let mut names: Vec<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for page in ["speil.1", "speil-sync.1", "speil-mirror.1", "speil-run.1", "speil-status.1", "speil.lua.5"]
    {
        assert!(names.iter().any(|name| name == page), "no {page} in {names:?}");
    }
    for name in &names {
        let page = dir.path().join(name);
        let mut command = env.command("man");
        command
            .args(["--warnings", "-E", "UTF-8", "-l"])
            .arg(&page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8");
        let read = Background::spawn(command).wait().succeeded();
        assert_eq!(read.stderr, "", "{name}");
        assert!(read.stdout.contains("NAME") && read.stdout.contains("speil"), "{name}: {}", read.stdout);
    }
    let text = fs::read_to_string(dir.path().join("speil-sync.1")).unwrap();
    assert!(text.contains("max\\-delete"), "an option is missing");
    assert!(fs::read_to_string(dir.path().join("speil.1")).unwrap().contains("EXIT STATUS"));
    let text = fs::read_to_string(dir.path().join("speil.lua.5")).unwrap();
    assert!(text.contains("\\fBmaxDelete\\fR"), "a key is missing");
    let shown = env.run(["help", "configuration"]).succeeded().stdout;
    assert!(shown.contains("| `maxDelete` |"), "{shown}");
    assert!(env.run(["help", "sync"]).succeeded().stdout.contains("--max-delete"));
    assert!(!names.iter().any(|name| name.contains("completions")), "hidden commands have no page");
}

fn script(shell: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let text = Environment::new().run(["completions", shell]).succeeded().stdout;
    let file = dir.path().join(if shell == "zsh" { "_speil".to_owned() } else { format!("speil.{shell}") });
    fs::write(&file, text + "\n").unwrap();
    let name = file.display().to_string();
    (dir, name)
}

#[test]
fn bash_completes_commands_and_options() {
    let (_dir, file) = script("bash");
    assert_eq!(shell("bash", &["-n", &file]).succeeded().stderr, "");
    let ask = format!(
        "source {file}; COMP_WORDS=(speil stat); COMP_CWORD=1; _speil speil stat speil; echo \"${{COMPREPLY[*]}}\"; \
         COMP_WORDS=(speil sync --max-del); COMP_CWORD=2; _speil speil --max-del sync; echo \"${{COMPREPLY[*]}}\""
    );
    let said = shell("bash", &["-c", &ask]).succeeded();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines, ["status", "--max-delete"], "{said:?}");
}

#[test]
fn zsh_and_fish_take_their_completions() {
    let (_dir, file) = script("zsh");
    let said = shell(
        "zsh",
        &["-f", "-c", &format!("autoload -Uz compinit; compinit -D; source {file}; whence -w _speil")],
    );
    assert!(said.stdout.contains("_speil: function"), "{said:?}");
    let (_dir, file) = script("fish");
    let ask = format!("source {file}; complete -C 'speil stat'; complete -C 'speil sync --max-del'");
    let mut command = Command::new("fish");
    command.args(["--no-config", "-c", &ask]).env("HOME", "/nonexistent");
    let said = Background::spawn(command).wait().succeeded();
    assert!(said.stdout.contains("status"), "{said:?}");
    assert!(said.stdout.contains("--max-delete"), "{said:?}");
}
