//! The model: one `Sync` with its targets, and the settings of the daemon.

mod daemon;

use std::path::PathBuf;
use std::time::Duration;

pub use daemon::{AgentCheck, Http, LogFormat, Settings, Token};

use crate::config::{Allowed, Backup, Beside, Hours, Origins, Sources};
use crate::tree::{LinkRules, Mask, RelPath, quote};

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// What concerns the daemon as a whole.
    pub settings: Settings,
    /// The syncs, in the order of the file.
    pub syncs: Vec<Sync>,
}

/// One tree and where it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// What logs, status and commands call it.
    pub name: String,
    /// The source tree: an existing directory.
    pub source: PathBuf,
    /// What a single pass sends where that is not the one directory.
    pub sources: Option<Sources>,
    /// Directories beside the targets that may hold what those lack; for a single pass.
    pub beside: Option<Beside>,
    /// What becomes of what is replaced or removed; for a single pass.
    pub backup: Option<Backup>,
    /// What the target has is removed here (`--remove-source-files`).
    pub removes: bool,
    /// The targets: at least one.
    pub targets: Vec<Target>,
    /// The file that lists them, where the configuration names one.
    pub targets_file: Option<PathBuf>,
    /// Which of the hosts that hold the tree this one is, where the configuration names them all.
    pub hosts: Option<Hosts>,
    /// Which properties are kept.
    pub mask: Mask,
    /// Which entries take part.
    pub selection: Selection,
    /// rsync filter rules in order, first match wins: `- *.tmp`, `+ /keep/`, `P lost+found/`.
    pub filters: Vec<Vec<u8>>,
    /// Where each of them was written, as far as that is known.
    pub origins: Origins,
    /// When entries that the source lacks are removed from the targets.
    pub delete: DeleteMode,
    /// Which deletes are held back.
    pub guard: Guard,
    /// How long a busy path must be quiet before it is sent.
    pub delay: Duration,
    /// How long a path that is never quiet waits at most.
    pub max_delay: Duration,
    /// How long a file over 8 MiB that is open for writing waits for the close.
    pub max_open: Duration,
    /// The periodic pass.
    pub reconcile: Reconcile,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Most bytes a second to each target.
    pub bwlimit: Option<u64>,
    /// Hours in which another limit holds.
    pub bwlimit_hours: Vec<Hours>,
    /// Whether data is compressed on the way.
    pub compress: Compress,
    /// Connections to each target, 1 to 16: one channel of OpenSSH carries 2 MiB per round trip.
    pub connections: u8,
    /// How changes are noticed.
    pub watch: Backend,
    /// Time between two walks of the poll backend.
    pub poll_interval: Duration,
    /// How hosts are reached.
    pub transport: Transport,
    /// Arguments for ssh.
    pub ssh: Ssh,
    /// Where the agent on a target comes from.
    pub agent: AgentSource,
    /// Time without any sign of life after which a connection is given up.
    pub timeout: Duration,
    /// Allows `/`, `/etc`, `/home`, `/usr` and `/var` as a root.
    pub force_root: bool,
    /// Whether what is moved on the source is moved on the targets. Without, the old name stays there, as
    /// after a delete that is not carried over.
    pub moves: bool,
    /// What the targets hold counts as this mirror's from the start: another program kept them before. And a
    /// few live deletes may leave the tree empty.
    pub adopted: bool,
    /// Where data may go.
    pub allowed: Allowed,
    /// What the targets keep of what is removed and replaced there.
    pub trash: Option<Trash>,
    /// What has arrived of a large file is kept by a single pass that is cut off; live mirrors do so anyway.
    pub partial: bool,
    /// Reading everything again in the background.
    pub scrub: Option<Scrub>,
}

impl Sync {
    /// Returns a sync of `source` with the defaults of the live modes.
    pub fn new(name: impl Into<String>, source: impl Into<PathBuf>, targets: Vec<Target>) -> Self {
        Self {
            name: name.into(),
            source: source.into(),
            sources: None,
            beside: None,
            backup: None,
            removes: false,
            targets,
            targets_file: None,
            hosts: None,
            mask: Mask::everything(),
            selection: Selection::default(),
            filters: Vec::new(),
            origins: Origins::default(),
            delete: DeleteMode::Always,
            guard: Guard::default(),
            delay: Duration::from_millis(20),
            max_delay: Duration::from_secs(2),
            max_open: Duration::from_secs(60),
            reconcile: Reconcile::default(),
            durability: Durability::Batch,
            bwlimit: None,
            bwlimit_hours: Vec::new(),
            compress: Compress::Auto,
            connections: 1,
            watch: Backend::Auto,
            poll_interval: Duration::from_secs(10),
            transport: Transport::Ssh,
            ssh: Ssh::default(),
            agent: AgentSource::Auto,
            timeout: Duration::from_secs(60),
            force_root: false,
            moves: true,
            adopted: false,
            allowed: Allowed::default(),
            trash: None,
            partial: false,
            scrub: None,
        }
    }
}

/// Reading everything again in the background, where size and time say that it is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrub {
    /// What is found is repaired where the target is to blame.
    pub repair: bool,
    /// Time from the end of one to the next.
    pub interval: Duration,
    /// Bytes a second on either side.
    pub rate: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { repair: false, interval: Duration::from_secs(7 * 86_400), rate: 20 << 20 }
    }
}

/// What a target keeps of what is removed and replaced there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Trash {
    /// For how long.
    pub keep: Duration,
    /// Bytes of all of it.
    pub max: u64,
}

impl Default for Trash {
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 86_400), max: 10 << 30 }
    }
}

/// What `hosts` says of this host. The others are the targets, and the roles of the trees decide which of them sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Its key.
    pub here: String,
    /// Whether it may be promoted.
    pub may_lead: bool,
}

/// One target: a tree on one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// User and host as ssh takes them, `deploy@10.8.0.2`; `None` for this host.
    pub host: Option<String>,
    /// The directory on that host; relative to the user's home over ssh.
    pub path: Vec<u8>,
    /// What logs, status and commands call it, unique within its sync.
    pub name: String,
    /// How many directories at the end of `path` are made where they are missing: 0 to 2, or 255 for all of them.
    pub makes: u8,
    /// Whether its host may be promoted. What one that may not tells of younger generations does not count.
    pub may_lead: bool,
    /// A source that is no directory takes this path for itself where no directory is there, and so many directories
    /// above it are made.
    pub lands: Option<u8>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = quote(&self.path);
        let path = path.trim_matches('"');
        match &self.host {
            Some(host) if host.contains(':') => match host.rsplit_once('@') {
                Some((user, host)) => write!(f, "{user}@[{host}]:{path}"),
                None => write!(f, "[{host}]:{path}"),
            },
            Some(host) => write!(f, "{host}:{path}"),
            None => f.write_str(path),
        }
    }
}

/// Which entries of a tree take part, as rsync's options of the same names.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per rsync option; the field's own vocabulary")]
pub struct Selection {
    /// Descend into directories (`-r`).
    pub recursive: bool,
    /// Leave files alone that are newer on the target (`-u`).
    pub update: bool,
    /// Only files that the target has (`--existing`).
    pub existing: bool,
    /// Only files that the target lacks (`--ignore-existing`).
    pub ignore_existing: bool,
    /// Compare by size alone (`--size-only`).
    pub size_only: bool,
    /// Send every file (`--ignore-times`).
    pub ignore_times: bool,
    /// Times this close count as equal (`--modify-window`, seconds).
    pub modify_window: Duration,
    /// Send whole files, no deltas (`-W`).
    pub whole_file: bool,
    /// Stay on one filesystem (`-x`).
    pub one_file_system: bool,
    /// Numeric owners instead of names (`--numeric-ids`).
    pub numeric_ids: bool,
    /// Only these paths below the source (`--files-from`).
    pub files_from: Option<Vec<Listed>>,
    /// Mode changes in the form of chmod(1) (`--chmod`).
    pub chmod: Vec<String>,
    /// `USER:GROUP` for everything on the target (`--chown`).
    pub chown: Option<String>,
    /// `FROM:TO` pairs of users (`--usermap`).
    pub usermap: Option<String>,
    /// `FROM:TO` pairs of groups (`--groupmap`).
    pub groupmap: Option<String>,
    /// Write holes for runs of zeros (`-S`); holes of the source are kept in any case.
    pub sparse: bool,
    /// Files above this size stay as they are on the target (`--max-size`).
    pub max_size: Option<u64>,
    /// Files below this size do as well (`--min-size`).
    pub min_size: Option<u64>,
    /// A directory gives way to what is none with what it holds, without `--delete` as well (`--force`).
    pub force: bool,
    /// Directories are left out in which there are none but such directories (`-m`).
    pub prune: bool,
    /// What becomes of the source's symlinks (`-L` and its kin).
    pub links: LinkRules,
    /// What takes part is told and not sent (`--list-only`).
    pub list_only: bool,
}

/// One line of `--files-from`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Listed {
    /// Below the source.
    pub path: RelPath,
    /// What the directory holds is asked for, one level of it (`dir/`, `.`).
    pub level: bool,
}

impl Listed {
    /// Whether `-r` holds for it: the root may be named alone (`./file`).
    pub fn is_whole(&self) -> bool {
        self.level || !self.path.is_root()
    }
}

impl Selection {
    /// Whether a path takes part, as far as the list says: it is listed, on the way to what is, or below it.
    pub fn lists(&self, path: &RelPath) -> bool {
        let is_listed = |listed: &Listed| {
            listed.path.is_within(path)
                || (self.recursive && listed.is_whole() && path.is_within(&listed.path))
                || (listed.level && path.parent().as_ref() == Some(&listed.path))
        };
        match &self.files_from {
            Some(files) => files.iter().any(is_listed),
            None => self.recursive || path.depth() <= 1,
        }
    }

    /// Whether files are left out by their size.
    pub fn limits_size(&self) -> bool {
        self.max_size.is_some() || self.min_size.is_some()
    }

    /// Whether files of this size are sent.
    pub fn sends_size(&self, size: u64) -> bool {
        self.max_size.is_none_or(|max| size <= max) && self.min_size.is_none_or(|min| size >= min)
    }

    /// Whether a directory takes the source's time after a change in it: the root does if it is listed.
    pub fn dates(&self, dir: &RelPath) -> bool {
        let root = |files: &Vec<Listed>| files.iter().any(|listed| listed.path.is_root());
        !dir.is_root() || self.files_from.as_ref().is_none_or(root)
    }

    /// Whether one path alone takes part, without anything below it.
    pub fn is_one_path(&self) -> bool {
        let one = |paths: &Vec<Listed>| matches!(&paths[..], [Listed { level: false, .. }]);
        !self.recursive && self.files_from.as_ref().is_some_and(one)
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            recursive: true,
            update: false,
            existing: false,
            ignore_existing: false,
            size_only: false,
            ignore_times: false,
            modify_window: Duration::ZERO,
            whole_file: false,
            one_file_system: false,
            numeric_ids: false,
            files_from: None,
            chmod: Vec::new(),
            chown: None,
            usermap: None,
            groupmap: None,
            sparse: false,
            max_size: None,
            min_size: None,
            force: false,
            prune: false,
            links: LinkRules::default(),
            list_only: false,
        }
    }
}

/// When entries that the source lacks are removed from the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DeleteMode {
    /// Never.
    Never,
    /// In passes and live.
    Always,
    /// In passes only.
    Startup,
    /// Live only.
    Running,
}

impl DeleteMode {
    /// Whether a reconcile pass may delete.
    pub fn in_passes(self) -> bool {
        matches!(self, Self::Always | Self::Startup)
    }

    /// Whether a live event may delete.
    pub fn live(self) -> bool {
        matches!(self, Self::Always | Self::Running)
    }
}

/// Which deletes are held back until somebody approves them.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Guard {
    /// Off lets every delete through.
    pub enabled: bool,
    /// Most deletes that one burst or pass may bring.
    pub max_delete: MaxDelete,
    /// Whether excluded entries on the target are removed (`--delete-excluded`).
    pub delete_excluded: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self { enabled: true, max_delete: MaxDelete::Half, delete_excluded: false }
    }
}

/// The most that one burst or pass may delete.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum MaxDelete {
    /// No less than half of the tree must stay, for trees of 100 entries or more.
    Half,
    /// This many entries.
    Count(u64),
    /// This share of the tree, 0 to 100.
    Percent(f64),
    /// Any number.
    Unlimited,
}

/// The periodic pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Reconcile {
    /// Time between two passes; `None` for none but the first.
    pub interval: Option<Duration>,
    /// What a pass compares.
    pub verify: Verify,
}

impl Default for Reconcile {
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(900)), verify: Verify::Quick }
    }
}

/// What a pass compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verify {
    /// Sizes, times and metadata: nothing else tells of a change.
    Stamps,
    /// The same; what may have changed unheard and looks equal is hashed.
    Quick,
    /// BLAKE3 of the contents as well.
    Checksum,
}

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Durability {
    /// Applied; the kernel writes it out when it likes.
    None,
    /// The batch is on the disk.
    Batch,
    /// Each file is on the disk before its name changes.
    File,
}

/// Whether data is compressed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Compress {
    /// Never.
    Never,
    /// Where the link is the bottleneck and the data shrinks.
    Auto,
    /// Wherever the data shrinks.
    Always,
}

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Backend {
    /// The best that the source supports.
    Auto,
    /// speil's own inotify backend: a watch for each directory.
    Inotify,
    /// speil's own fanotify backend: a mark on the whole filesystem; inotify where that is refused.
    Fanotify,
    /// The portable backend over the `notify` crate.
    Notify,
    /// Walks the tree at an interval.
    Poll,
}

/// How hosts are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The `ssh` command.
    Ssh,
    /// libssh2 in this process.
    Ssh2,
}

/// Arguments for ssh.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ssh {
    /// The whole remote shell command of rsync's `-e`, split into words; replaces `ssh`.
    pub command: Option<Vec<String>>,
    /// Port.
    pub port: Option<u16>,
    /// Private key file.
    pub identity_file: Option<PathBuf>,
    /// `ssh -o` options.
    pub options: Vec<(String, String)>,
    /// More arguments for ssh as they stand.
    pub extra: Vec<String>,
}

/// Where the agent on a target comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSource {
    /// In the target's PATH, else deployed.
    Auto,
    /// In the target's PATH; nothing is uploaded.
    Path,
    /// This command, with the leading words (`sudo`, `nice`) that it may have.
    Command(Vec<String>),
    /// Deployed, whatever stands in PATH; leading words (`sudo`) go before it.
    Deploy,
    /// In PATH, else deployed, with these words (`sudo`, `doas`, `nice`, `ionice`) before it.
    Prefixed(Vec<String>),
    /// In PATH with these words before it; nothing is uploaded.
    PathPrefixed(Vec<String>),
}
