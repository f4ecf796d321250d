//! `.speil/role` as text, which an administrator can read at three in the morning without a tool.
//!
//! **Invariants:** what is written is read back equal; what is longer than its bound, cut short, changed by hand or of
//! a later version is an error, and never a tree without a role. The last line is a check over all before it.

use std::fmt::Write;

use super::generation::{ANCESTORS_MAX, Generation, Id};
use super::names::HostName;
use super::record::{Adoption, HeardOf, KNOWN_MAX, Record, Role, TreeId};
use super::starts::{STARTS_MAX, Starts};

/// Most bytes of the file: ten generations with full histories, and the rest.
pub const RECORD_LEN_MAX: usize = 512 * 1024;

const FIRST_LINE: &str = "speil role 1";
const REMARK: &str =
    "# Written by speil: `speil promote`, `demote` and `rejoin` change it. An edit is refused.";

/// What is wrong with a role file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It is longer than any that is written.
    #[error("longer than {RECORD_LEN_MAX} bytes")]
    TooLong,
    /// A later version wrote it, or something else did.
    #[error("its first line is not \"{FIRST_LINE}\": a later version wrote it, or it is damaged")]
    Version,
    /// It was cut short, changed by hand or damaged.
    #[error("its check does not fit: it is damaged, or was edited")]
    Damaged,
    /// The check fits, but a line says nothing that this version knows.
    #[error("line {0} makes no sense")]
    Line(usize),
    /// Something is missing that every record says.
    #[error("it does not say its {0}")]
    Missing(&'static str),
}

impl Record {
    /// Returns the file's content.
    pub fn to_text(&self) -> String {
        let mut out = format!("{FIRST_LINE}\n{REMARK}\n");
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        line(format_args!("role {}", if self.role == Role::Primary { "primary" } else { "standby" }));
        if let Some(generation) = &self.generation {
            line(format_args!("generation {}", written(generation, "")));
        }
        if self.mine {
            line(format_args!("mine"));
        }
        if let Some(adoption) = &self.adopting {
            let begun = if adoption.begun { " begun" } else { " chosen" };
            line(format_args!("adopting {}", written(&adoption.of, begun)));
        }
        for known in &self.known {
            line(format_args!("known {}", written(&known.generation, &format!(" {}", known.host))));
        }
        line(format_args!("heard {}", self.heard));
        if let Some(coming) = self.coming {
            line(format_args!("coming {coming}"));
        }
        if let Some(group) = self.group {
            line(format_args!("group {group}"));
        }
        line(format_args!("machine {}", self.place.machine));
        line(format_args!("inode {}", self.place.inode));
        if let Some(born) = self.place.born {
            line(format_args!("born {born}"));
        }
        let starts = &self.starts;
        let each = |word, ids: &[Id]| ids.iter().map(|id| (word, *id)).collect::<Vec<_>>();
        let seen = each("seen", starts.seen.as_slice());
        for (word, id) in each("running", starts.running.as_slice())
            .iter()
            .chain(&each("ended", &starts.ended))
            .chain(&seen)
        {
            line(format_args!("{word} {id}"));
        }
        let check = check_of(&out);
        let _ = writeln!(out, "check {check}");
        out
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(bytes: &[u8]) -> Result<Self, BadRecord> {
        if bytes.len() > RECORD_LEN_MAX {
            return Err(BadRecord::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| BadRecord::Damaged)?;
        if text.lines().next() != Some(FIRST_LINE) {
            return Err(BadRecord::Version);
        }
        let (body, check) = text.rsplit_once("check ").ok_or(BadRecord::Damaged)?;
        if !body.ends_with('\n') || check.strip_suffix('\n') != Some(check_of(body).as_str()) {
            return Err(BadRecord::Damaged);
        }
        let mut reader = Reader::default();
        for (at, line) in body.lines().enumerate().skip(1) {
            if !line.starts_with('#') {
                reader.take(line).ok_or(BadRecord::Line(at + 1))?;
            }
        }
        reader.finish()
    }
}

fn check_of(body: &str) -> String {
    blake3::hash(body.as_bytes()).to_hex()[..16].to_owned()
}

/// Writes a generation, what belongs to it behind it, and its history on lines of its own.
fn written(generation: &Generation, behind: &str) -> String {
    let mut out = format!("{} {}{behind}", generation.n(), generation.id());
    for id in generation.ancestors() {
        let _ = write!(out, "\n  after {id}");
    }
    out
}

/// A generation whose history is still being read.
#[derive(Default)]
struct Growing {
    n: u64,
    id: Option<Id>,
    ancestors: Vec<Id>,
    behind: String,
}

impl Growing {
    fn generation(&self) -> Option<Generation> {
        Some(Generation::new(self.n, self.id?, self.ancestors.clone()))
    }
}

/// What has been read.
#[derive(Default)]
struct Reader {
    generations: Vec<(&'static str, Growing)>,
    role: Option<Role>,
    mine: bool,
    group: Option<Id>,
    coming: Option<Id>,
    heard: Option<u64>,
    machine: Option<Id>,
    inode: Option<u64>,
    born: Option<i64>,
    starts: Starts,
}

/// Sets what may be said once.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value?);
    Some(())
}

impl Reader {
    /// Takes a line; `None` if it makes no sense.
    fn take(&mut self, line: &str) -> Option<()> {
        if let Some(id) = line.strip_prefix("  after ") {
            let growing = &mut self.generations.last_mut()?.1;
            growing.ancestors.push(id.parse().ok()?);
            return (growing.ancestors.len() <= ANCESTORS_MAX).then_some(());
        }
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        let id = value.parse().ok();
        match word {
            "role" if value == "primary" => once(&mut self.role, Some(Role::Primary)),
            "role" if value == "standby" => once(&mut self.role, Some(Role::Standby)),
            "generation" => self.grow("generation", value),
            "adopting" => self.grow("adopting", value),
            "known" => self.grow("known", value),
            "mine" if value.is_empty() && !self.mine => {
                self.mine = true;
                Some(())
            }
            "heard" => once(&mut self.heard, value.parse().ok()),
            "coming" => once(&mut self.coming, id),
            "group" => once(&mut self.group, id),
            "machine" => once(&mut self.machine, id),
            "inode" => once(&mut self.inode, value.parse().ok()),
            "born" => once(&mut self.born, value.parse().ok()),
            "running" => once(&mut self.starts.running, id),
            "seen" => once(&mut self.starts.seen, id),
            "ended" => {
                self.starts.ended.push(id?);
                (self.starts.ended.len() <= STARTS_MAX).then_some(())
            }
            _ => None,
        }
    }

    fn grow(&mut self, word: &'static str, value: &str) -> Option<()> {
        let mut parts = value.split(' ');
        let n = parts.next()?.parse().ok()?;
        let id = Some(parts.next()?.parse().ok()?);
        let behind = parts.next().unwrap_or_default().to_owned();
        let fits = match word {
            "generation" => behind.is_empty(),
            "adopting" => matches!(behind.as_str(), "begun" | "chosen"),
            _ => HostName::new(&behind).to_string() == behind,
        };
        let most = if word == "known" { KNOWN_MAX } else { 1 };
        let before = self.generations.iter().filter(|(other, _)| *other == word).count();
        if !fits || parts.next().is_some() || before == most {
            return None;
        }
        self.generations.push((word, Growing { n, id, ancestors: Vec::new(), behind }));
        Some(())
    }

    fn finish(self) -> Result<Record, BadRecord> {
        let of = |word| {
            self.generations.iter().filter(move |(other, _)| *other == word).map(|(_, growing)| growing)
        };
        let generation = of("generation").find_map(Growing::generation);
        let adopting = of("adopting").find_map(|growing| {
            Some(Adoption { of: growing.generation()?, begun: growing.behind == "begun" })
        });
        let known = of("known")
            .filter_map(|growing| {
                Some(HeardOf { generation: growing.generation()?, host: HostName::new(&growing.behind) })
            })
            .collect();
        let place = TreeId {
            machine: self.machine.ok_or(BadRecord::Missing("machine"))?,
            inode: self.inode.ok_or(BadRecord::Missing("inode"))?,
            born: self.born,
        };
        let role = self.role.ok_or(BadRecord::Missing("role"))?;
        if role == Role::Primary && generation.is_none() {
            return Err(BadRecord::Missing("generation"));
        }
        Ok(Record {
            group: self.group,
            place,
            role,
            generation,
            mine: self.mine,
            coming: self.coming,
            adopting,
            known,
            heard: self.heard.ok_or(BadRecord::Missing("heard"))?,
            starts: self.starts,
        })
    }
}
