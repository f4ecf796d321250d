//! Tables for people, values for programs, and what they were measured with.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arena::Failure;
use crate::contender::Contender;
use crate::measure::Figures;
use crate::rows::{Goal, Row};
use crate::support::command::SPEIL;
use crate::support::statistics::median;

/// One contender's turn in one row.
pub struct Run {
    /// The name of the row.
    pub row: &'static str,
    /// Who ran.
    pub contender: Contender,
    /// From 1.
    pub repetition: usize,
    /// What was measured, or why nothing was.
    pub figures: Result<Figures, Failure>,
}

/// All runs so far, and the directory they are written to.
pub struct Report {
    dir: PathBuf,
    runs: Vec<Run>,
    /// Rows that could not be prepared.
    failed: Vec<&'static str>,
}

impl Report {
    /// Makes a new directory `benches/runs/DATE-CLASS` and describes this host in it.
    ///
    /// # Errors
    /// The system's.
    pub fn create(quick: bool) -> io::Result<Self> {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/runs");
        fs::create_dir_all(&base)?;
        let quick = if quick { "-quick" } else { "" };
        let name = format!("{}-{}{quick}", said(Command::new("date").args(["-u", "+%F"])), host_class());
        for number in 1.. {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let dir = base.join(format!("{name}{suffix}"));
            match fs::create_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    fs::write(dir.join("environment.txt"), environment())?;
                    return Ok(Self { dir, runs: Vec::new(), failed: Vec::new() });
                }
            }
        }
        unreachable!("the loop ends at a free name")
    }

    /// Adds one run.
    pub fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Notes that nobody could run a row.
    pub fn failed(&mut self, row: &'static str) {
        self.failed.push(row);
    }

    /// Whether every run gave figures.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.runs.iter().all(|run| run.figures.is_ok())
    }

    /// Returns where the report is, from the package's root.
    pub fn shown_dir(&self) -> String {
        format!("benches/runs/{}", self.dir.file_name().unwrap_or_default().to_string_lossy())
    }

    /// Returns the medians of one row as a Markdown table; in parentheses how many times speil's.
    pub fn table(&self, row: &Row) -> String {
        let runs: Vec<&Run> = self.runs.iter().filter(|run| run.row == row.name).collect();
        let took_part = |contender: &&Contender| runs.iter().any(|run| run.contender == **contender);
        let contenders: Vec<Contender> = row.contenders.iter().filter(took_part).copied().collect();
        let names: Vec<&str> = contenders.iter().map(|contender| contender.name()).collect();
        let mut text = format!("### {}: {}\n\n| figure | {} |\n", row.name, row.title, names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(contenders.len()));
        for figure in figure_names(&runs) {
            let _ = write!(text, "| {figure} |");
            let ours = middle(&runs, Contender::Speil, figure);
            for &contender in &contenders {
                let _ = match (middle(&runs, contender, figure), ours) {
                    (None, _) => write!(text, " – |"),
                    (Some(value), Some(ours)) if contender != Contender::Speil && ours > 0.0 => {
                        write!(text, " {} ({:.1}×) |", shown(value), value / ours)
                    }
                    (Some(value), _) => write!(text, " {} |", shown(value)),
                };
            }
            text.push('\n');
        }
        text.push_str(&goals(row, &runs));
        for run in &runs {
            if let Err(error) = &run.figures {
                let why = self.without_paths(&error.to_string());
                let _ = writeln!(
                    text,
                    "\n{} failed in repetition {}: {why}",
                    run.contender.name(),
                    run.repetition
                );
            }
        }
        text
    }

    /// Writes `raw.csv` and `summary.md`.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, rows: &[&'static Row]) -> io::Result<()> {
        let mut csv = String::from("row,contender,repetition,figure,value\n");
        for run in &self.runs {
            for (figure, value) in run.figures.iter().flatten() {
                let Run { row, contender, repetition, .. } = run;
                let _ = writeln!(csv, "{row},{},{repetition},{figure},{value}", contender.name());
            }
        }
        fs::write(self.dir.join("raw.csv"), csv)?;
        let measured = |row: &&&Row| self.runs.iter().any(|run| run.row == row.name);
        let tables: Vec<String> = rows.iter().filter(measured).map(|row| self.table(row)).collect();
        let head = "Medians of all repetitions; in parentheses how many times speil's figure. \
                    `environment.txt` says on what and with which commands, `raw.csv` holds every value.\n";
        fs::write(self.dir.join("summary.md"), format!("{head}\n{}", tables.join("\n")))
    }

    /// Returns one line of `text` in which this host's directories are only hinted at.
    fn without_paths(&self, text: &str) -> String {
        let words = text.split_whitespace().map(|word| if word.contains("/dev/shm/") { "…" } else { word });
        words.take(60).collect::<Vec<_>>().join(" ").replace(env!("CARGO_MANIFEST_DIR"), "…")
    }
}

/// Returns what was to be reached and what was, as a table; nothing where there is no goal.
fn goals(row: &Row, runs: &[&Run]) -> String {
    let mut text = String::new();
    for goal in row.goals {
        let (figure, limit, words) = match goal {
            Goal::AtMost(figure, limit) => (figure, Some(*limit), format!("at most {}", shown(*limit))),
            Goal::Share(figure, peer, share) => {
                let theirs = middle(runs, *peer, figure);
                let words = format!("at most {} of {}", shown(*share), peer.name());
                (figure, theirs.map(|theirs| theirs * share), words)
            }
        };
        let ours = middle(runs, Contender::Speil, figure);
        let (Some(ours), Some(limit)) = (ours, limit) else { continue };
        let verdict = if ours <= limit { "reached" } else { "missed" };
        let part = ours / limit.max(1e-12);
        if text.is_empty() {
            text.push_str("\n| goal | limit | measured | of the limit | |\n|---|---:|---:|---:|---|\n");
        }
        let (limit, ours) = (shown(limit), shown(ours));
        let _ = writeln!(text, "| {figure} {words} | {limit} | {ours} | {part:.2} | {verdict} |");
    }
    text
}

/// Returns the figures of a row in the order in which they were first measured.
fn figure_names(runs: &[&Run]) -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    let all = runs.iter().filter_map(|run| run.figures.as_ref().ok()).flatten();
    all.map(|&(name, _)| name).filter(|&name| seen.insert(name)).collect()
}

fn middle(runs: &[&Run], contender: Contender, figure: &str) -> Option<f64> {
    let turns = runs.iter().filter(|run| run.contender == contender);
    let figures = turns.filter_map(|run| run.figures.as_ref().ok()).flatten();
    let values: Vec<f64> = figures.filter(|(name, _)| *name == figure).map(|&(_, value)| value).collect();
    (!values.is_empty()).then(|| median(&values))
}

/// Returns a value with three significant digits, at least.
fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns what kind of host this is, without its name: `2cpu-24gb`.
fn host_class() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: f64 = total.and_then(|t| t.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0.0);
    format!("{cpus}cpu-{:.0}gb", kib / 1024.0 / 1024.0)
}

fn environment() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let root = env!("CARGO_MANIFEST_DIR");
    let changed =
        said(Command::new("git").args(["-C", root, "status", "--porcelain", "--untracked-files=no"]));
    let mut text = format!(
        "date     {}\ncommit   {}{}\nhost     {}, {}\nkernel   {}\n\
         speil    {}\nrsync    {}\nlsyncd   {}\nssh      {}\ntar      {}\n\
         link     ssh over loopback, AES-GCM, one sshd for all; trees in tmpfs on both sides\n\ncommands\n",
        said(Command::new("date").args(["-u", "+%FT%TZ"])),
        said(Command::new("git").args(["-C", root, "rev-parse", "--short=12", "HEAD"])),
        if changed.is_empty() { "" } else { " with changes" },
        host_class(),
        cpu.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        said(Command::new(SPEIL).arg("--version")),
        said(Command::new("rsync").arg("--version")),
        said(Command::new("lsyncd").arg("--version")),
        said(Command::new("ssh").arg("-V")),
        said(Command::new("tar").arg("--version")),
    );
    for contender in Contender::ALL {
        let _ = writeln!(text, "  {}", contender.commands().replace('\n', "\n  "));
    }
    text
}

/// Returns the first line that a command says, on either stream; nothing if it cannot run.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "not installed".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}
