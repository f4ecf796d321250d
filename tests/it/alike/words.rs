//! Random command lines: what `speil sync` takes of rsync's words.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::grow::{break_circles, date, drift, give_acls, grow};
use crate::support::rng::Rng;

/// Where source and target are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Local,
    /// The target is remote.
    Push,
    /// The source is remote.
    Pull,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    seed: u64,
    pub place: Place,
    /// Options; `@` stands for the directory that a run is in.
    pub words: Vec<String>,
    pub sources: Vec<String>,
    pub target: String,
}

/// A word or several that belong together, and of how many cases one has it.
const WORDS: &[(&str, usize)] = &[
    ("-a", 2),
    ("-r", 3),
    ("-l", 4),
    ("-p", 4),
    ("-t", 4),
    ("-g", 6),
    ("-o", 6),
    ("-D", 6),
    ("-H", 4),
    ("-X", 8),
    ("-O", 10),
    ("-J", 12),
    ("--numeric-ids", 8),
    ("-S", 12),
    ("-x", 14),
    ("-u", 8),
    ("--existing", 12),
    ("--ignore-existing", 12),
    ("-c", 6),
    ("--size-only", 10),
    ("-I", 10),
    ("--modify-window=1", 12),
    ("--delete", 3),
    ("--delete-before", 12),
    ("--delete-after", 12),
    ("--delete-excluded", 10),
    ("-z", 10),
    ("-W", 12),
    ("--chmod=D2755,F640", 14),
    ("--chmod=u+w,go-x", 14),
    ("--exclude=*.tmp", 6),
    ("--exclude=/a", 10),
    ("--exclude=b/", 10),
    ("--include=*.log --exclude=*", 20),
    ("--include=*/ --exclude=c*", 16),
    ("--filter=P_*.log", 12),
    ("--filter=H_core", 14),
    ("--filter=R_*.tmp", 16),
    ("--max-size=1k", 14),
    ("--min-size=10", 14),
    ("-n", 6),
    ("-i", 2),
    ("-ii", 8),
    ("-m", 10),
    ("--safe-links", 16),
    ("-C", 16),
    ("--force", 16),
    ("--remove-source-files", 20),
    ("--stats", 4),
    ("-b", 10),
    ("--suffix=.old", 16),
    ("--backup-dir=@/kept", 16),
    ("--link-dest=@/ref", 12),
    ("--copy-dest=@/ref", 16),
    ("--compare-dest=@/ref", 16),
    ("--no-whole-file", 8),
    ("--no-perms", 16),
    ("--no-times", 16),
    ("--no-links", 20),
    ("--partial", 20),
    ("-L", 24),
    ("-k", 24),
    ("--copy-unsafe-links", 24),
    ("-R", 14),
    ("-A", 12),
    ("--max-delete=2", 14),
    ("--files-from=@/list", 20),
    ("--chown=12:100", 24),
    ("--usermap=0:12", 24),
    ("--groupmap=*:100", 24),
    ("--mkpath", 24),
    ("--no-g", 24),
    ("-d", 24),
];

impl Case {
    /// Returns the case of a seed.
    pub fn random(rng: &mut Rng, seed: u64) -> Self {
        let place = match rng.below(10) {
            0 => Place::Push,
            1 => Place::Pull,
            _ => Place::Local,
        };
        let mut words = Vec::new();
        for (word, of) in WORDS {
            if rng.one_in(*of) {
                words.extend(word.split(' ').map(|word| word.replace('_', " ")));
            }
        }
        let has = |front: &str| words.iter().any(|word| word.starts_with(front));
        let sources: &[&str] = match (rng.below(8), has("-R"), has("--files-from")) {
            (_, _, true) => &["src/"],
            (0, true, _) => &["src/a", "src/b"],
            (1, true, _) => &["src/./a", "src/./b"],
            (2 | 3, true, _) => &["./src/"],
            (0, ..) => &["src"],
            (1, ..) => &["src/", "more/"],
            (2, ..) => &["src", "more"],
            (3, ..) if place == Place::Local => &["src/a", "src/b"],
            _ => &["src/"],
        };
        let sources = sources.iter().map(|&source| source.to_owned()).collect();
        // Older trees are for targets that hold nothing yet.
        let beside = words.iter().any(|word| word.contains("-dest="));
        let target = if beside || rng.one_in(6) { "new/" } else { "dst/" };
        let mut case = Self { seed, place, words, sources, target: target.to_owned() };
        if !case.descends() {
            case.words.insert(0, "-r".to_owned());
        }
        case.settle();
        case
    }

    /// Takes out what contradicts itself.
    fn settle(&mut self) {
        let has = |case: &Self, front: &str| case.words.iter().any(|word| word.starts_with(front));
        // Without -r nothing is deleted: speil refuses it, and -a does not say it beside a list.
        if has(self, "--files-from") && !self.has("-r") {
            self.words.retain(|word| !word.starts_with("--delete"));
        }
        if !has(self, "--delete") {
            self.words.retain(|word| !word.starts_with("--max-delete"));
        }
        // speil refuses these together, as contrib/rsync-differences.md says.
        if has(self, "--remove-source-files") {
            let apart = ["-L", "-k", "--copy-unsafe-links", "--ignore-existing"];
            self.words.retain(|word| !apart.contains(&word.as_str()));
        }
        // rsync lets one of them be given.
        let mut dest = None;
        self.words.retain(|word| match word.split_once("-dest=") {
            Some((kind, _)) => *dest.get_or_insert_with(|| kind.to_owned()) == kind,
            None => true,
        });
        let mut when = 0;
        self.words.retain(|word| {
            when += usize::from(word.starts_with("--delete-") && word != "--delete-excluded");
            when <= 1 || !word.starts_with("--delete-") || word == "--delete-excluded"
        });
    }

    /// Whether directories are descended into; without, nothing but files is asked for.
    pub fn descends(&self) -> bool {
        self.has("-a") || self.has("-r")
    }

    /// Whether anything is deleted.
    pub fn deletes(&self) -> bool {
        self.words.iter().any(|word| word.starts_with("--delete"))
    }

    /// Whether modes are kept.
    pub fn keeps_modes(&self) -> bool {
        (self.has("-a") || self.has("-p") || self.has("-A")) && !self.has("--no-perms")
    }

    /// Whether owners or groups are others on the target.
    pub fn changes_owners(&self) -> bool {
        let words = ["-a", "-o", "-g"];
        let fronts = ["--chown", "--usermap", "--groupmap"];
        self.words
            .iter()
            .any(|word| words.contains(&word.as_str()) || fronts.iter().any(|front| word.starts_with(front)))
    }

    /// Whether a rule keeps something on the target.
    pub fn protects(&self) -> bool {
        self.words
            .iter()
            .any(|word| word.starts_with("--filter=P") || word.contains("clude=") || word == "-C")
    }

    /// Whether what is replaced is kept.
    pub fn keeps_old(&self) -> bool {
        self.words
            .iter()
            .any(|word| word == "-b" || word.starts_with("--backup") || word.starts_with("--suffix"))
    }

    /// Returns a path of a line below the only directory that is named without a slash: "lines of `-i` for a single directory
    /// without a slash" begin with its name in rsync.
    pub fn below<'a>(&self, path: &'a str) -> &'a str {
        match &self.sources[..] {
            [only] if !only.ends_with('/') && !self.has("-R") => match path.strip_prefix(&format!("{only}/"))
            {
                Some("") => "./",
                Some(below) => below,
                None => path,
            },
            _ => path,
        }
    }

    /// Whether symlinks stand for what they lead to.
    pub fn follows(&self) -> bool {
        ["-L", "-k", "--copy-unsafe-links"].iter().any(|word| self.has(word))
    }

    /// Whether an option is among the words.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|other| other == word)
    }

    /// Returns the arguments of a run in `dir`.
    pub fn arguments(&self, dir: &Path) -> Vec<String> {
        let dir = dir.display().to_string();
        // With -R what lies below the directory of the run alone is kept.
        let from = if self.has("-R") && !self.sources.iter().any(|source| source.contains("/./")) {
            "/./"
        } else {
            "/"
        };
        let remote = |path: &String| format!("127.0.0.1:{dir}{from}{}", path.trim_start_matches("./"));
        let local = Clone::clone;
        let sources: Vec<String> = match self.place {
            Place::Pull => self.sources.iter().map(remote).collect(),
            _ => self.sources.iter().map(local).collect(),
        };
        let target = if self.place == Place::Push { remote(&self.target) } else { self.target.clone() };
        let words = self.words.iter().map(|word| word.replace('@', &dir));
        words.chain(sources).chain([target]).collect()
    }

    /// Returns the command line for people.
    pub fn shown(&self) -> String {
        format!("{:?} {} {} {}", self.place, self.words.join(" "), self.sources.join(" "), self.target)
    }

    /// Makes the trees of the case.
    pub fn grow(&self, dir: &Path) {
        let rng = &mut Rng::new(self.seed ^ 0x5eed);
        for name in ["src", "more"] {
            grow(&dir.join(name), rng);
            if self.follows() {
                break_circles(&dir.join(name));
            }
            if self.has("-A") {
                give_acls(&dir.join(name), rng);
            }
        }
        for name in ["a", "b"] {
            let path = dir.join("src").join(name);
            if path.symlink_metadata().is_err() {
                fs::write(&path, name).unwrap();
                date(&path, (1_400_000_000, 0));
                date(&dir.join("src"), (1_300_000_000, 0));
            }
        }
        for name in ["dst", "ref"] {
            let from = dir.join(if rng.one_in(4) { "more" } else { "src" });
            // Without -H rsync changes all names of a file of the target, and speil does not.
            let kept = if self.has("-H") { "-a" } else { "-r" };
            let more = "--preserve=mode,ownership,timestamps,xattr";
            let mut copy = std::process::Command::new("cp");
            let mut to = dir.join(name);
            if self.has("-R") {
                fs::create_dir(&to).unwrap();
                date(&to, (1_100_000_000, 0));
                to.push("src");
            }
            let status = copy.args([kept, more, "--no-dereference"]).arg(from).arg(&to).status();
            assert!(status.unwrap().success());
            drift(&to, rng);
        }
        self.write_list(dir, rng);
        if self.has("-R") {
            // With `./src/` the directory of the run is the source's own: it is not to change in the run.
            fs::create_dir(dir.join("kept")).unwrap();
            fs::create_dir(dir.join("new")).unwrap();
        }
        date(dir, (1_600_000_000, 0));
    }

    /// Writes the paths of `--files-from`, one of which may be missing.
    fn write_list(&self, dir: &Path, rng: &mut Rng) {
        if !self.has("--files-from=@/list") {
            return;
        }
        let walk = walkdir::WalkDir::new(dir.join("src")).min_depth(1).sort_by_file_name();
        let mut list = Vec::new();
        for entry in walk.into_iter().flatten() {
            let path = entry.path().strip_prefix(dir.join("src")).unwrap().as_os_str().as_bytes();
            // A line of a list ends where a name may not, and begins with what is no comment.
            if rng.one_in(3) && !path.contains(&b'\n') {
                list.extend_from_slice(path);
                list.push(b'\n');
            }
        }
        fs::write(dir.join("list"), list).unwrap();
        date(&dir.join("list"), (1_000_000_000, 0));
    }
}
