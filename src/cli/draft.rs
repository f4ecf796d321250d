//! What the options say so far, and what comes of it.

mod checks;
mod lists;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_bytes::ByteBuf;

use super::carried::{carried_name, descend, shown};
use super::error::CliError;
use super::output::{Lock, Output};
use super::remote_program::RemoteProgram;
use super::values::{ValueError, text};
use crate::config::{
    AgentSource, Backend, Borrow, Compress, DeleteMode, Durability, Listed, Selection, Sources, Sync, Target,
    Transport, is_remote, name_targets, parse_target, remote_path, split_words,
};
use crate::tree::{Mask, RelPath, quote};

/// What `speil sync` or `speil mirror` is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// The tree, its targets, and how they are kept. Paths are as they were given: relative ones to the
    /// working directory.
    pub sync: Sync,
    /// Where the tree is, if that is another host; then the one target is on this host.
    pub from: Option<Far>,
    /// How results are shown.
    pub output: Output,
    /// Say what the pass would do, and change nothing.
    pub dry_run: bool,
    /// Whether a dry run may upload the agent without a question: `--agent` says where it comes from.
    pub uploads: bool,
    /// Keep what has arrived of an interrupted file for the next run.
    pub partial: bool,
    /// How another run on a target is treated; for `sync` only.
    pub lock: Lock,
    /// The control socket; for `mirror` only, `None` for the default.
    pub control: Option<PathBuf>,
    /// What to tell about the options, one line each.
    pub notes: Vec<String>,
}

/// A source on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Far {
    /// User and host as ssh takes them.
    pub host: String,
    /// Its path has no slash at its end.
    pub is_named: bool,
    /// The target of a source that is no directory, as its host alone knows.
    pub target: Option<Target>,
}

pub use checks::check_source;
use checks::{check_kept, is_no_directory, refuse_twins, stands_for};

/// A filter option, in the order of the command line.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// `--filter`.
    Rule(OsString),
    /// `--exclude` (`-`) or `--include` (`+`).
    One(char, OsString),
    /// `--exclude-from` or `--include-from`, and whether entries end at NUL bytes.
    File(char, OsString, bool),
}

/// What the options say so far.
pub(super) struct Draft {
    pub sync: Sync,
    pub output: Output,
    pub dry_run: bool,
    pub partial: bool,
    pub lock: Lock,
    pub control: Option<PathBuf>,
    pub remote: Remote,
    pub lists: ListArgs,
    pub asked: Asked,
    from: Option<Far>,
    live: bool,
}

/// How hosts are reached, before it is put together.
#[derive(Default)]
pub(super) struct Remote {
    /// `--rsh`.
    pub rsh: Option<Vec<String>>,
    /// `--rsync-path`.
    pub program: Option<RemoteProgram>,
    /// `-4` or `-6`, as ssh has it too.
    pub family: Option<&'static str>,
    /// `--contimeout`, in seconds.
    pub connect_limit: Option<u32>,
}

/// Patterns and lists, before they are read.
#[derive(Default)]
pub(super) struct ListArgs {
    /// `--files-from`.
    pub files_from: Option<OsString>,
    /// `--from0`, so far.
    pub from0: bool,
    patterns: Vec<Pattern>,
}

/// What was asked for as such, where it decides what another option means.
#[derive(Default)]
pub(super) struct Asked {
    /// `--max-delete`.
    pub max_delete: bool,
    /// `-xx`.
    pub skip_mounts: bool,
    /// `--relative`, or not.
    pub relative: Option<bool>,
    /// `--no-implied-dirs`.
    pub plain_ways: bool,
    /// `--dirs`.
    pub dirs: bool,
    /// `--mkpath`.
    pub mkpath: bool,
    /// `--ignore-missing-args`.
    pub may_miss: bool,
    /// `--link-dest` and its kin.
    pub beside: Vec<(Borrow, OsString)>,
    /// `--backup` and its kin.
    pub backup: AskedBackup,
    /// `--agent`.
    pub agent: bool,
    /// `--cvs-exclude`.
    pub cvs: bool,
    archive: bool,
    recursive: Option<bool>,
}

/// What was asked for of backups.
#[derive(Default)]
pub(super) struct AskedBackup {
    pub on: bool,
    pub dir: Option<OsString>,
    pub suffix: Option<OsString>,
}

impl Draft {
    /// Returns what holds without options: `-aHAX --delete` for a live mirror, nothing for a pass.
    pub(super) fn new(live: bool) -> Self {
        let mut sync = Sync::new("", "", Vec::new());
        if !live {
            // The set-id bits and the times of links and directories follow from -p and -t.
            sync.mask = Mask { dir_times: true, link_times: true, ..Mask::nothing() };
            sync.delete = DeleteMode::Never;
            sync.reconcile.interval = None;
            sync.compress = Compress::Auto;
        }
        Self {
            sync,
            output: Output::default(),
            dry_run: false,
            partial: false,
            lock: Lock::default(),
            control: None,
            remote: Remote::default(),
            lists: ListArgs::default(),
            asked: Asked { archive: live, ..Asked::default() },
            from: None,
            live,
        }
    }

    pub(super) fn set_archive(&mut self, _on: bool) {
        let mask = &mut self.sync.mask;
        (mask.perms, mask.owner, mask.group, mask.times) = (true, true, true, true);
        (mask.symlinks, mask.devices, mask.specials) = (true, true, true);
        self.asked.archive = true;
        // A later -a turns on again what an earlier --no-r turned off.
        self.asked.recursive = self.asked.recursive.filter(|on| *on);
    }

    pub(super) fn set_recursive(&mut self, on: bool) {
        self.asked.recursive = Some(on);
    }

    pub(super) fn set_times(&mut self, on: bool) {
        self.sync.mask.times = on;
    }

    pub(super) fn set_delete(&mut self, on: bool) {
        self.sync.delete = if on { DeleteMode::Always } else { DeleteMode::Never };
    }

    #[allow(clippy::unnecessary_wraps, reason = "the form of every option with a value")]
    pub(super) fn add(&mut self, pattern: Pattern) -> Result<(), ValueError> {
        self.lists.patterns.push(pattern);
        Ok(())
    }

    /// Puts sources, targets and options together; `rsync_rsh` is what the environment says about the
    /// remote shell.
    ///
    /// # Errors
    /// [`CliError`] for a source or target that cannot be, for options that contradict each other, and for
    /// list files that cannot be read.
    pub(super) fn finish(
        mut self,
        words: &[&OsStr],
        rsync_rsh: Option<&OsStr>,
    ) -> Result<Transfer, CliError> {
        let (sources, targets) = parted(words, self.live);
        let [source, more @ ..] = sources else { return Err(CliError::EmptySource) };
        let lists = !self.live && (targets.is_empty() || self.sync.selection.list_only);
        self.sync.selection.list_only = lists;
        let written = self.set_source(source)?;
        self.settle_recursion();
        if lists {
            // As in rsync: without -r, one level.
            self.asked.dirs |= !self.sync.selection.recursive;
            self.sync.delete = DeleteMode::Never;
        }
        let several = self.settle_sources(sources)?;
        self.check_recursion(several)?;
        // With --files-from the paths count from the source itself, slash or not.
        let carried = carried_name(written).filter(|_| self.lists.files_from.is_none() && !several && !lists);
        self.sync.selection.links.depth = u32::from(carried.is_some());
        if let Some(far) = &mut self.from {
            // A live mirror follows a symlink.
            far.is_named = carried.is_some() && !self.live;
        }
        let lands = several && self.asked.relative != Some(true);
        // What comes from another host is known too late.
        self.set_targets(
            if lists { &[] } else { targets },
            carried,
            lands && (self.from.is_none() || more.is_empty() && !self.asked.dirs),
        )?;
        self.settle_beside(carried)?;
        let keeps = self.settle_backup(carried)?;
        self.read_lists(carried)?;
        self.sync.filters.extend(keeps);
        self.settle_guard()?;
        if lists {
            self.settle_listing(several);
        }
        self.settle_shell(rsync_rsh)?;
        let mut notes = self.settle_agent()?;
        if several
            && more.is_empty()
            && !self.output.quiet
            && Path::new(source).is_symlink()
            && Path::new(source).is_dir()
            && !stands_for(Path::new(source), self.sync.selection.links)
        {
            let source = quote(source.as_bytes());
            notes.push(format!("SOURCE {source} is a symlink and is sent as one; with a slash at its end its directory is sent"));
        }
        self.sync.partial = self.partial;
        Ok(Transfer {
            sync: self.sync,
            from: self.from,
            output: self.output,
            dry_run: self.dry_run,
            uploads: self.asked.agent,
            partial: self.partial,
            lock: self.lock,
            control: self.control,
            notes,
        })
    }

    /// Takes in where the source is. Returns its path as it was written.
    fn set_source<'a>(&mut self, source: &'a OsStr) -> Result<&'a OsStr, CliError> {
        if source.is_empty() {
            return Err(CliError::EmptySource);
        }
        let (mut written, mut path) = (source, PathBuf::from(source));
        if is_remote(source.as_bytes()) {
            let there = parse_target(source.as_bytes())?;
            path = PathBuf::from(OsStr::from_bytes(&there.path));
            let is_home = there.path == b".";
            written = remote_path(source.as_bytes())
                .filter(|_| !is_home)
                .map_or(OsStr::new("."), OsStr::from_bytes);
            self.from = there.host.map(|host| Far { host, is_named: false, target: None });
        }
        self.sync.name = match path.file_name() {
            Some(name) => shown(name.as_bytes()),
            None if self.live => "mirror".to_owned(),
            None => "sync".to_owned(),
        };
        self.sync.source = path;
        Ok(written)
    }

    /// What is only told of needs no place to go.
    fn settle_listing(&mut self, several: bool) {
        let path = b".".to_vec();
        let name = String::new();
        self.sync.targets = vec![Target { host: None, path, name, makes: 0, may_lead: false, lands: None }];
        let selection = &mut self.sync.selection;
        if !several && !selection.recursive && selection.files_from.is_none() {
            selection.files_from = Some(vec![Listed { path: RelPath::root(), level: true }]);
        }
    }

    fn settle_recursion(&mut self) {
        // rsync's -a does not imply -r beside --files-from; a live mirror always descends.
        let implied = self.asked.archive && (self.live || self.lists.files_from.is_none());
        self.sync.selection.recursive = self.asked.recursive.unwrap_or(implied);
    }

    /// Has sources that are not one directory sent as rsync does: a file or a symlink without a slash, several of them,
    /// whole paths, or one level. Returns whether they are. A live mirror follows a symlink, as lsyncd does.
    fn settle_sources(&mut self, words: &[&OsStr]) -> Result<bool, CliError> {
        let relative = self.asked.relative == Some(true);
        let [first, more @ ..] = words else { return Ok(false) };
        if self.live || self.lists.files_from.is_some() {
            let clash = self.lists.files_from.is_some() && !more.is_empty();
            return if clash {
                Err(CliError::Conflict("--files-from", "several SOURCEs"))
            } else {
                Ok(false)
            };
        }
        let is_none = match self.from {
            // Its host will say; and a directory that is not to be entered is passed over there.
            Some(_) => !self.sync.selection.recursive,
            None => is_no_directory(first, self.sync.selection.links),
        };
        let flat = self.asked.dirs && !self.sync.selection.recursive;
        let is_plain = if self.sync.selection.list_only {
            carried_name(remote_path(first.as_bytes()).map_or(*first, OsStr::from_bytes)).is_none()
        } else {
            !flat && !is_none
        };
        if more.is_empty() && !relative && is_plain {
            return Ok(false);
        }
        let words = words.iter().map(|word| self.word_on_host(word, first)).collect::<Result<Vec<_>, _>>()?;
        let (dirs, may_miss) = (self.asked.dirs, self.asked.may_miss);
        let sources =
            Sources { words, relative, dirs, may_miss, plain_ways: self.asked.plain_ways, called: None };
        let leads = sources.leads();
        check_kept(&sources, &leads, self.from.is_none())?;
        if let Some(Some((dir, _))) = leads.into_iter().next() {
            self.sync.source = dir;
        }
        self.sync.sources = Some(sources);
        Ok(true)
    }

    /// Returns a source as it is written on its host, which is that of the first one.
    fn word_on_host(&self, word: &OsStr, first: &OsStr) -> Result<ByteBuf, CliError> {
        let bytes = word.as_bytes();
        if bytes.is_empty() {
            return Err(CliError::EmptySource);
        }
        let apart = || CliError::SourcesApart(quote(bytes), quote(first.as_bytes()));
        let Some(far) = &self.from else {
            return if is_remote(bytes) { Err(apart()) } else { Ok(ByteBuf::from(bytes)) };
        };
        let path = match bytes.strip_prefix(b":") {
            Some(path) if !path.starts_with(b":") => path,
            _ => {
                let there = parse_target(bytes)?;
                if there.host.as_ref() != Some(&far.host) {
                    return Err(apart());
                }
                remote_path(bytes).unwrap_or_default()
            }
        };
        let path = path.strip_prefix(b"~/").unwrap_or(if path == b"~" { b"" } else { path });
        Ok(ByteBuf::from(if path.is_empty() { b"." } else { path }))
    }

    fn check_recursion(&self, several: bool) -> Result<(), CliError> {
        let dirs_alone = || {
            let words = self.sync.sources.iter().flat_map(|sources| &sources.words);
            words
                .map(|word| Path::new(OsStr::from_bytes(word)))
                .all(|path| path.is_dir() && !path.is_symlink())
        };
        let enters = self.sync.selection.recursive || self.asked.dirs || self.lists.files_from.is_some();
        match several {
            _ if enters => Ok(()),
            true if self.from.is_some() || !dirs_alone() => Ok(()),
            _ => Err(CliError::NotRecursive),
        }
    }

    fn set_targets(
        &mut self,
        targets: &[&OsStr],
        carried: Option<&[u8]>,
        lands: bool,
    ) -> Result<(), CliError> {
        if self.from.is_some()
            && let Some(remote) = targets.iter().find(|target| is_remote(target.as_bytes()))
        {
            let source = quote(self.sync.source.as_os_str().as_bytes());
            return Err(CliError::BothRemote(source, quote(remote.as_bytes())));
        }
        let path_makes = if self.asked.mkpath { u8::MAX } else { 0 };
        for text in targets {
            let mut target = parse_target(text.as_bytes())?;
            let is_path = text.as_bytes().ends_with(b"/");
            if let Some(far) = &mut self.from {
                let lands = (!is_path).then_some(path_makes);
                let makes = if is_path { path_makes.max(1) } else { 0 };
                far.target = Some(Target { lands, makes, ..target.clone() });
            }
            if let Some(name) = carried {
                descend(&mut target, name);
                // A live mirror makes no more than its root: what is missing above it may be a volume.
                target.makes = if self.live { 1 } else { 2 };
            }
            target.makes = target.makes.max(path_makes);
            // rsync gives what is no directory the name of a target that is missing and has no slash at its end.
            if lands && !is_path {
                (target.makes, target.lands) = (0, Some(path_makes));
            }
            self.sync.targets.push(target);
        }
        name_targets(&mut self.sync.targets);
        refuse_twins(&self.sync.targets)
    }

    fn settle_guard(&self) -> Result<(), CliError> {
        if self.asked.skip_mounts {
            let command = if self.live { "mirror" } else { "sync" };
            let reason = "a mount point stays as an empty directory; -x once, and exclude it by name";
            return Err(CliError::Refused { option: "-xx".to_owned(), command, reason });
        }
        if self.asked.relative == Some(false) && self.sync.selection.files_from.is_some() {
            let reason = "the paths of --files-from keep their directories on the target";
            return Err(CliError::Refused { option: "--no-relative".to_owned(), command: "sync", reason });
        }
        self.settle_removal()?;
        self.settle_far()?;
        let Selection { chown, usermap, groupmap, .. } = &self.sync.selection;
        if chown.is_some() && (usermap.is_some() || groupmap.is_some()) {
            return Err(CliError::Conflict("--chown", "--usermap and --groupmap"));
        }
        if self.asked.max_delete && !self.sync.guard.enabled {
            return Err(CliError::Conflict("--max-delete", "--no-delete-guard"));
        }
        if !self.sync.selection.recursive && self.sync.delete != DeleteMode::Never {
            return Err(CliError::DeleteNotRecursive);
        }
        Ok(())
    }

    /// Refuses what has no sense where the source is on another host.
    fn settle_far(&self) -> Result<(), CliError> {
        const FAR: &str = "a SOURCE on another host";
        let sync = &self.sync;
        let clash = [
            ("--connections", sync.connections > 1),
            ("several TARGETs", self.live && sync.targets.len() > 1),
            // What the agent there may read is confined to the source; a mark tells of the whole filesystem.
            ("--watch=fanotify", sync.watch == Backend::Fanotify),
            ("--watch=notify", sync.watch == Backend::Notify),
        ];
        match clash.into_iter().find(|(_, is_so)| *is_so && self.from.is_some()) {
            Some((what, _)) => Err(CliError::Conflict(what, FAR)),
            None => Ok(()),
        }
    }

    /// Refuses what cannot be promised of files that are removed here: that one target has the whole of each.
    fn settle_removal(&self) -> Result<(), CliError> {
        const REMOVES: &str = "--remove-source-files";
        let (sync, selection) = (&self.sync, &self.sync.selection);
        let clash = [
            (sync.targets.len() > 1, "several TARGETs"),
            (selection.links.follows(), "-L, -k or --copy-unsafe-links"),
            (selection.ignore_existing, "--ignore-existing"),
            (sync.durability == Durability::None, "--durability=none"),
        ];
        match clash.into_iter().find(|(is_so, _)| sync.removes && *is_so) {
            Some((_, with)) => Err(CliError::Conflict(REMOVES, with)),
            None => Ok(()),
        }
    }

    fn settle_shell(&mut self, rsync_rsh: Option<&OsStr>) -> Result<(), CliError> {
        let in_process = self.sync.transport == Transport::Ssh2;
        if self.remote.rsh.is_some() && in_process {
            return Err(CliError::Conflict("--rsh", "--transport=ssh2"));
        }
        if self.remote.rsh.is_some() && self.sync.ssh.port.is_some() {
            return Err(CliError::Conflict("--rsh", "--port"));
        }
        self.sync.ssh.command = self.remote.rsh.take();
        let asked = self.sync.ssh.command.is_some() || in_process || self.sync.ssh.port.is_some();
        if let (false, Some(value)) = (asked, rsync_rsh.filter(|value| !value.is_empty())) {
            let words = text(value).and_then(|value| Ok(split_words(value)?));
            self.sync.ssh.command = Some(words.map_err(|why| CliError::value("RSYNC_RSH", value, why))?);
        }
        self.settle_connection(in_process)
    }

    /// Hands on to ssh what rsync says of the connection; another remote shell may not know it.
    fn settle_connection(&mut self, in_process: bool) -> Result<(), CliError> {
        let Remote { family, connect_limit, .. } = self.remote;
        let limit = connect_limit.map(|seconds| format!("-oConnectTimeout={seconds}"));
        let words: Vec<String> = family.map(str::to_owned).into_iter().chain(limit).collect();
        if words.is_empty() {
            return Ok(());
        }
        let option = match family {
            Some("-4") => "--ipv4",
            Some(_) => "--ipv6",
            None => "--contimeout",
        };
        let is_ssh = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "ssh");
        match &mut self.sync.ssh.command {
            _ if in_process => return Err(CliError::Conflict(option, "--transport=ssh2")),
            Some(command) if command.first().is_some_and(is_ssh) => drop(command.splice(1..1, words)),
            Some(_) => return Err(CliError::Conflict(option, "a remote shell other than ssh")),
            None => self.sync.ssh.extra.extend(words),
        }
        Ok(())
    }

    /// Puts the words of `--rsync-path` before the agent. Returns what to tell.
    fn settle_agent(&mut self) -> Result<Vec<String>, CliError> {
        let mut notes = Vec::new();
        let Some(RemoteProgram { mut prefix, program }) = self.remote.program.take() else {
            return Ok(notes);
        };
        if program != "rsync" && (prefix.is_empty() || !program.ends_with("/rsync")) {
            notes.push(format!(
                "--rsync-path: {} is not started, speil's agent is; --agent says where it is",
                quote(program.as_bytes())
            ));
        }
        if prefix.is_empty() {
            return Ok(notes);
        }
        self.sync.agent = match std::mem::replace(&mut self.sync.agent, AgentSource::Auto) {
            AgentSource::Auto => AgentSource::Prefixed(prefix),
            AgentSource::Path => {
                prefix.push("speil".to_owned());
                AgentSource::Command(prefix)
            }
            AgentSource::Command(words) => {
                prefix.extend(words);
                AgentSource::Command(prefix)
            }
            _ => return Err(CliError::Conflict("--rsync-path", "--agent=deploy")),
        };
        Ok(notes)
    }
}

/// Parts the words of a command line into sources and targets: the last one is the target, but that one source on this
/// host may go to several others.
fn parted<'a, 'b>(words: &'a [&'b OsStr], live: bool) -> (&'a [&'b OsStr], &'a [&'b OsStr]) {
    let is_far = |word: &&OsStr| is_remote(word.as_bytes());
    let fans_out = words.first().is_some_and(|first| !is_far(first)) && words.iter().skip(1).all(is_far);
    let at = if live || fans_out { 1 } else { words.len().saturating_sub(1).max(1) };
    words.split_at_checked(at).unwrap_or((words, &[]))
}
