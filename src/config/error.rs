//! What is wrong with a configuration, and where.
//!
//! **Invariants:** a message is one line in lower case that names the key and what is allowed; what
//! to do about it is the hint, apart from the message. **Not here:** rendering, which `cli` does.

use std::fmt;

use crate::config::target::TargetError;
use crate::error::{Consequence, Consequential};
use crate::filter::FilterError;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePosition {
    /// The file as it was named.
    pub file: String,
    /// The line, counted from 1; `None` for the file as a whole.
    pub line: Option<u32>,
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// A configuration that cannot be used. Consequence: die.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct ConfigError {
    /// Where: the line of the `sync{}` or `settings{}` call, or the one that Lua names.
    pub place: FilePosition,
    /// What. Boxed, since results carry it on every path.
    pub fault: Box<Fault>,
}

impl ConfigError {
    /// Returns `fault` at `place`.
    pub fn new(place: &FilePosition, fault: Fault) -> Self {
        Self { place: place.clone(), fault: Box::new(fault) }
    }

    /// Returns the message without the place.
    pub fn message(&self) -> String {
        self.fault.to_string()
    }

    /// Returns what the administrator may do about it.
    pub fn hint(&self) -> Option<String> {
        self.fault.hint()
    }
}

impl Consequential for ConfigError {
    fn consequence(&self) -> Consequence {
        Consequence::Die
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read; what the system says.
    #[error("cannot read it: {0}")]
    Read(String),
    /// A directory that was named holds no `*.lua`.
    #[error("no *.lua file in this directory")]
    EmptyDirectory,
    /// Lua's own words.
    #[error("{0}")]
    Lua(String),
    /// The program does not end.
    #[error("still running after {0} million instructions")]
    Runaway(u64),
    /// The program asked for more memory than a configuration may have.
    #[error("needs more than {0} MiB of memory")]
    Memory(usize),
    /// The program called `os.exit`.
    #[error("the configuration ended itself with os.exit({0})")]
    Exit(i64),
    /// No file holds a `sync{}`.
    #[error("no sync{{}} in the configuration")]
    NoSync,
    /// A source on another host, quoted.
    #[error("source = {0} is on another host, and a configuration mirrors from this one")]
    RemoteSource(String),
    /// A `sync{}` without a layer.
    #[error("this sync has no layer")]
    NoLayer {
        /// The layer that the file asked for last and that does not exist.
        asked: Option<String>,
    },
    /// A block of lsyncd's with keys that speil cannot serve by itself.
    #[error("default.{layer}: speil has nothing like {}", keys.join(", "))]
    Unmapped {
        /// The layer.
        layer: String,
        /// The keys.
        keys: Vec<String>,
    },
    /// A value that stands where only tables may.
    #[error("{block} cannot hold {given} without a key")]
    Stray {
        /// `sync{}` or `settings{}`.
        block: &'static str,
        /// The value as the administrator wrote it.
        given: String,
    },
    /// A key that does not exist.
    #[error("unknown key \"{key}\"")]
    UnknownKey {
        /// With the keys above it: `ssh.prot`.
        key: String,
        /// The key that was probably meant.
        near: Option<String>,
    },
    /// A key that must be there.
    #[error("key \"{0}\" is missing")]
    Missing(&'static str),
    /// Two keys that exclude each other.
    #[error("key \"{0}\" and key \"{1}\" cannot both be given")]
    Both(&'static str, &'static str),
    /// A value of the wrong type or outside its range.
    #[error("key \"{key}\" is {given}, allowed: {allowed}")]
    Value {
        /// With the keys above it.
        key: String,
        /// The value as the administrator wrote it.
        given: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A file that a key names cannot be read.
    #[error("key \"{key}\": cannot read {path}: {cause}")]
    File {
        /// The key.
        key: &'static str,
        /// The file, quoted.
        path: String,
        /// What the system says.
        cause: String,
    },
    /// A target that cannot be reached as it is written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A filter rule that does not parse.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A name that another sync has.
    #[error("the name \"{name}\" is taken by the sync at {other}")]
    NameTaken {
        /// The name.
        name: String,
        /// Where the other sync stands.
        other: FilePosition,
    },
    /// A target that two syncs, or one sync twice, would write to.
    #[error("target {target} is given twice{}", by(.other))]
    TargetTwice {
        /// The target.
        target: String,
        /// The other sync, if it is another one.
        other: Option<String>,
    },
    /// A target inside another target of the same source.
    #[error("target {inner} lies inside target {outer} of the same source")]
    TargetNested {
        /// The target below.
        inner: String,
        /// The target above.
        outer: String,
    },
    /// A target that overlaps its own source.
    #[error("target {target} and the source {source_dir} lie inside each other")]
    TargetInSource {
        /// The target.
        target: String,
        /// The source, quoted.
        source_dir: String,
    },
    /// `hosts` does not say which of them this host is.
    #[error(
        "none of the hosts {} is this one, which is called \"{name}\": write settings {{ host = \"{}\" }}, or whichever \
         it is",
        all(.hosts), first(.hosts)
    )]
    NoSuchHost {
        /// The keys.
        hosts: Vec<String>,
        /// What this host is called.
        name: String,
    },
    /// `settings.host` is not among `hosts`.
    #[error("key \"settings.host\" is \"{chosen}\", and key \"hosts\" has {}: write one of these", all(.hosts))]
    NotAmongHosts {
        /// The keys.
        hosts: Vec<String>,
        /// What the setting says.
        chosen: String,
    },
    /// Several keys of `hosts` mean this host.
    #[error(
        "each of the hosts {} could be this one, which is called \"{name}\": write settings {{ host = \"{}\" }}, or \
         whichever it is",
        all(.hosts), first(.hosts)
    )]
    SeveralHosts {
        /// The keys.
        hosts: Vec<String>,
        /// What this host is called.
        name: String,
    },
    /// `hosts` names this host alone.
    #[error("key \"hosts\" names no other host than {0}")]
    NoOtherHost(String),
    /// No host of `hosts` may be promoted.
    #[error("key \"hosts\" lets no host lead: each entry has mayLead = false")]
    NobodyMayLead,
    /// A target whose loss would be the loss of the host.
    #[error("target {0} is a directory of the system itself")]
    SystemRoot(String),
}

fn by(other: &Option<String>) -> String {
    other.as_ref().map(|name| format!(", also by sync \"{name}\"")).unwrap_or_default()
}

/// Returns names as a sentence lists them.
fn all(names: &[String]) -> String {
    match names {
        [head @ .., last] if !head.is_empty() => format!("{} and {last}", head.join(", ")),
        _ => names.concat(),
    }
}

fn first(names: &[String]) -> &str {
    names.first().map_or("", String::as_str)
}

impl Fault {
    /// Returns what the administrator may do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownKey { near: Some(near), .. } => return Some(format!("did you mean \"{near}\"?")),
            Self::Target(error) => return error.hint().map(str::to_owned),
            Self::Runaway(_) => "does a loop end?",
            Self::NoSync => "add sync { default.mirror, source = \"/dir/\", target = \"host:/dir/\" }",
            Self::NoLayer { asked: Some(name) } => {
                return Some(format!("default.{name} does not exist; did you mean default.mirror?"));
            }
            Self::RemoteSource(_) => {
                "speil mirror HOST:SOURCE/ TARGET pulls it here; a service of its own may run that command"
            }
            Self::NoLayer { asked: None } => "begin with the layer: sync { default.mirror, source = ... }",
            Self::Missing("targets") => "add target = \"host:/dir/\" or targets = { \"host:/dir/\", ... }",
            Self::Missing("target") => "add target = \"host:/dir/\" or target = \"/dir/\"",
            Self::Missing("source") => {
                "add source = \"/dir/\"; a name that is not defined counts as not given"
            }
            Self::Stray { block: "hosts", .. } => "name each host: hosts = { oslo = \"root@10.8.0.1\", ... }",
            Self::NoSuchHost { .. } => {
                "or name the entry as the host is called: then the file is the same everywhere"
            }
            Self::NoOtherHost(_) => "add the others: hosts = { oslo = \"root@10.8.0.1\", bergen = ... }",
            Self::TargetNested { .. } => {
                "the upper one would delete what the lower one brings: exclude it there"
            }
            Self::SystemRoot(_) => "if that is meant: forceRoot = true",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Something that works but is hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub place: FilePosition,
    /// What, in one line.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}
