//! A source, a target, and recorders in place of rsync and ssh.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::command::{Background, Environment, SPEIL, eventually};
use crate::support::process;

/// A call as it was recorded: its words, short flags sorted, and the lines that it read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Its words.
    pub words: Vec<String>,
    /// What it read.
    pub input: BTreeSet<String>,
}

impl Call {
    /// Whether a word or a line that was read holds `text`.
    pub fn mentions(&self, text: &str) -> bool {
        self.words.iter().chain(&self.input).any(|word| word.contains(text))
    }
}

/// A source, a target, and a program that records how it is called.
pub struct Scene {
    pub dir: TempDir,
    pub environment: Environment,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s/a", "t", "log", "bin"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let scene = Self { dir, environment: Environment::new() };
        scene.recorder("recorder", 0);
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        // lsyncd shows the source without symlinks.
        fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    /// Writes a program that records its call and ends with `code`.
    pub fn recorder(&self, name: &str, code: i32) {
        self.write_recorder(
            name,
            "",
            "case \"$*\" in *-from=-*|*'. -'*) cat > $n.input;; esac\n",
            &format!("exit {code}"),
        );
    }

    /// Writes `bin/NAME`, which records its name and its call, and ends with one of `codes` after the other.
    pub fn stand_in(&self, name: &str, codes: &str) {
        let end = format!(
            "set -- {codes}\nc={0}/.{name}\nn=$(cat $c 2>/dev/null || echo 0)\necho $((n + 1)) > $c\n\
             while [ $n -gt 0 ] && [ $# -gt 1 ]; do shift; n=$((n - 1)); done\nexit $1",
            self.path("bin").display()
        );
        // A script that reads all of its input: standard input is a pipe or /dev/null.
        self.write_recorder(
            &format!("bin/{name}"),
            &format!("printf '{name}\\0'; "),
            "cat > $n.input\n",
            &end,
        );
    }

    fn write_recorder(&self, name: &str, first: &str, read: &str, end: &str) {
        let script = format!(
            "#!/bin/sh\nn={0}/$(date +%s%N)-$$\n{{ {first}for w in \"$@\"; do printf '%s\\0' \"$w\"; done; }} > $n.words\n\
             {read}mv $n.words $n.call\n{end}\n",
            self.path("log").display()
        );
        fs::write(self.path(name), script).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn configure(&self, text: &str) -> PathBuf {
        let text = text.replace("@/", &format!("{}/", self.path("").to_string_lossy().trim_end_matches('/')));
        let file = self.path("lsyncd.conf.lua");
        fs::write(&file, text).unwrap();
        file
    }

    pub fn start(&self, speil: bool, arguments: &[&str]) -> Background {
        self.start_with_path(speil, arguments, &std::env::var("PATH").unwrap_or_default())
    }

    /// Starts one of the programs with a PATH.
    pub fn start_with_path(&self, speil: bool, arguments: &[&str], path: &str) -> Background {
        let mut command = if speil {
            let mut command = self.environment.command(SPEIL);
            command.arg("lsyncd");
            command
        } else {
            self.environment.command("/usr/bin/lsyncd")
        };
        command.args(arguments).current_dir(self.path("")).env("TZ", "UTC");
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("PATH", path);
        Background::spawn(command)
    }

    /// Returns how many calls there were.
    pub fn count(&self) -> usize {
        let names = fs::read_dir(self.path("log")).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|file| file.extension().is_some_and(|end| end == "call")).count()
    }

    pub fn calls(&self) -> Vec<Call> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.path("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "call"));
        files.sort();
        files.iter().map(|file| self.call(file)).collect()
    }

    fn call(&self, file: &Path) -> Call {
        let split = |text: &str, at: &[char]| -> Vec<String> {
            text.split(at).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let base = format!("{}/", self.path("").to_string_lossy().trim_end_matches('/'));
        let words = fs::read_to_string(file).unwrap().replace(&base, "@/");
        let words = split(&words, &['\0']).into_iter().map(sorted_cluster).collect();
        let input = fs::read_to_string(file.with_extension("input")).unwrap_or_default();
        Call { words, input: split(&input, &['\0', '\n']).into_iter().collect() }
    }

    /// Makes both programs run `text` and returns the calls that each made while `edit` was done.
    pub fn calls_of_each(text: &str, edit: impl Fn(&Path), lasts: usize) -> Vec<Vec<Call>> {
        let mut all = Vec::new();
        for speil in [true, false] {
            if !speil && !Path::new("/usr/bin/lsyncd").exists() {
                eprintln!("lsyncd is not installed: nothing to compare with");
                continue;
            }
            let scene = Self::new();
            let file = scene.configure(text);
            let guard = scene.start(speil, &["-nodaemon", &file.to_string_lossy()]);
            eventually("the first pass", || !scene.calls().is_empty());
            guard.wait_for_line("finished");
            edit(&scene.path("s"));
            eventually("the calls", || scene.calls().len() >= lasts);
            process::send(guard.pid(), Signal::TERM);
            assert_eq!(guard.wait().code(), 143);
            all.push(scene.calls());
        }
        all
    }
}

pub fn sorted_cluster(word: String) -> String {
    match word.strip_prefix('-') {
        Some(cluster) if !cluster.starts_with('-') && cluster.chars().all(char::is_alphanumeric) => {
            let mut letters: Vec<char> = cluster.chars().collect();
            letters.sort_unstable();
            format!("-{}", letters.into_iter().collect::<String>())
        }
        _ => word,
    }
}

pub fn call(words: &str, input: &[&str]) -> Call {
    Call {
        words: words.split(' ').map(|word| sorted_cluster(word.to_owned())).collect(),
        input: input.iter().map(|line| (*line).to_owned()).collect(),
    }
}
