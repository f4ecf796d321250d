//! The agent that sends: the far side of a pull.
//!
//! **Purpose:** [`send`] takes an order from the side that pulls, makes one pass over the source that it names, or
//! mirrors it until it is stopped, and has everything that the sender would print told there.
//! **In → Out:** a byte stream each way. **Invariants:** nothing is written on this host; with a root nothing outside of
//! it is read, whatever an order or a symlink says, and what the agent's own filter hides is not there.
//! **Not here:** what is written on the other side, and how far: that is for the receiver there.

mod live;

use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::far::{Far, Said, Wire};
use super::once::{Named, TargetReport, in_order, once_over};
use super::teller::Teller;
use crate::config::{DeleteMode, Reconcile, Sync, Target, Trash};
use crate::confine;
use crate::disk::{Root, read_entry};
use crate::error::{errno_of, failure_text, io_text};
use crate::filter::Filter;
use crate::monitor::{Monitor, Notice};
use crate::protocol::{
    Account, Failure, FrameError, FrameReader, FromFar, MAGIC, ORDER_LEN_MAX, PULL_EDITION, PullOrder,
    Refusal, ToFar, ToReceiver, ToSender, Unsent, Word, read_magic,
};
use crate::sender::{
    Lead, Mailbox, SessionError, Source, Stand, list_source, look_up_apart, merged, open_sources,
};
use crate::tree::{Kind, Mask, RelPath, quote};

/// Time for the order to come.
const ORDER_LIMIT: Duration = Duration::from_secs(60);
/// What the process ends with where it does not.
const LATE_STATUS: i32 = 30;

/// How an agent that sends is confined, by its own side alone.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// Nothing is read but what is in this directory.
    pub root: Option<PathBuf>,
    /// What is hidden of it, whatever an order says.
    pub filter: Filter,
    /// The process takes away from itself what it does not need; threads that run already keep it.
    pub confine: bool,
}

/// How what a session ends with and what happens is put for people.
#[derive(Clone, Copy)]
pub struct Words {
    /// An error, with what to do about it and rsync's exit code.
    pub failure: fn(&SessionError) -> Failure,
    /// A notice that only a close look needs; `None` for every other.
    pub detail: fn(&Notice) -> Option<String>,
}

/// Why nothing was sent. The agent's process ends with it.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The stream broke or was not speil's.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The other side was told why.
    #[error("nothing is sent: {0:?}")]
    Unsent(Unsent),
    /// The other side wanted to send.
    #[error("this agent only sends (--send)")]
    Sends,
    /// The agent's own machinery failed.
    #[error("{what}: {}", io_text(.error))]
    Own {
        /// What failed.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

fn own(what: &'static str) -> impl Fn(io::Error) -> SendError {
    move |error| SendError::Own { what, error }
}

/// Sends what the order on `input` asks for, until everything is there or the connection ends.
///
/// # Errors
/// [`SendError`]; how a pass went that was begun is told to the other side.
pub fn send(
    input: impl Read + Send + 'static,
    output: Box<dyn Write + Send>,
    options: &SendOptions,
    words: Words,
) -> Result<(), SendError> {
    // Before anything is taken away, and before anything was said.
    look_up_apart().map_err(own("start a thread"))?;
    let in_time = limit_order().map_err(own("start a thread"))?;
    if options.confine {
        confine::no_new_privileges();
    }
    know_host();
    let wire = Arc::new(Wire::new(output));
    wire.raw(&MAGIC)?;
    let mut input = BufReader::with_capacity(256 * 1024, input);
    read_magic(&mut input)?;
    let mut reader = FrameReader::new(input);
    let order = match order(&mut reader, &wire)? {
        Ok(order) => order,
        Err(why) => return refuse(&wire, why),
    };
    drop(in_time);
    if order.selection.links.follows() && !options.filter.is_empty() {
        return refuse(&wire, Unsent::Follows);
    }
    if order.means.removes && options.root.is_some() {
        return refuse(&wire, Unsent::ReadOnly);
    }
    let (sent, top) = match open_asked(&order, options) {
        Ok(opened) => opened,
        Err(why) => return refuse(&wire, why),
    };
    if order.live.is_some() && !matches!(Lead::of_sync(&sent.sync).stand(), Stand::Plain) {
        return refuse(&wire, Unsent::Role);
    }
    let above = options.root.is_none() && options.filter.is_empty();
    let mut sent = sent;
    match merged(&sent.sync, &sent.source, above) {
        Ok(rules) => sent.sync.filters = rules,
        Err(why) => return refuse(&wire, Unsent::Rules(why)),
    }
    if let Some(live) = &order.live {
        live::prepare(live, &mut sent.sync, &sent.source)?;
    }
    if options.confine {
        let root = sent.source.root();
        // Without a root of the administrator, symlinks may lead anywhere.
        let everything = if top.is_none() && root.follows() { Root::open(Path::new("/")).ok() } else { None };
        let top = top.as_ref().or(everything.as_ref());
        let beneath = top.map_or_else(|| root.tops(), |top| vec![top.as_fd()]);
        if order.means.removes {
            confine::confine_to_removing(&beneath);
        } else {
            confine::confine_to_reading(&beneath);
        }
    }
    let monitor = Arc::new(Teller::new(&order, Arc::clone(&wire), words.detail)) as Arc<dyn Monitor>;
    match &order.live {
        Some(live) => live::run(live, (sent.sync, sent.source), (reader, wire), (words, monitor)),
        None => pass(&order, sent, (reader, wire), (words, monitor)),
    }
}

/// What is sent: the source, the sync that is made of it, and what the words say that named it.
struct Sent {
    sync: Sync,
    source: Arc<Source>,
    named: Named,
}

/// Opens what an order asks for; with a root, beneath that alone, which is returned as well.
fn open_asked(order: &PullOrder, options: &SendOptions) -> Result<(Sent, Option<Root>), Unsent> {
    let Some(sources) = &order.sources else {
        let (source, top) = open(order, options)?;
        let sync = sync_of(order, source.path());
        return Ok((Sent { sync, source, named: Named::default() }, top));
    };
    if !options.filter.is_empty() {
        return Err(Unsent::OneDirectory);
    }
    let failed = |error: io::Error| Unsent::Source(errno_of(&error));
    let top = options.root.as_ref().map(|dir| Root::open(dir)).transpose().map_err(failed)?;
    let outside = std::cell::Cell::new(false);
    let open = |path: &Path| {
        let links = order.selection.links;
        let (Some(dir), Some(top)) = (&options.root, &top) else {
            return Root::open(path)?.following(links, None);
        };
        let opened = below(dir, path.as_os_str().as_bytes()).map(|at| top.dir(&at).map(Root::from_fd));
        let opened = opened.map(|opened| opened.and_then(|root| root.following(links, Some(top))));
        let opened = opened.unwrap_or(Err(io::Error::from_raw_os_error(libc::EXDEV)));
        let leads_out = |error: &io::Error| matches!(errno_of(error), libc::EXDEV | libc::ELOOP);
        outside.set(outside.get() || opened.as_ref().is_err_and(leads_out));
        opened
    };
    let opened = open_sources(sources, order.selection.recursive, 1, &open).map_err(failed)?;
    if outside.get() {
        return Err(Unsent::Outside);
    }
    let path = opened.source.as_ref().map(|source| source.path().to_owned()).unwrap_or_default();
    let ((sync, source, _), named) = in_order(&sync_of(order, &path), opened);
    let nothing = || named.missing.first().map_or(Unsent::Directory, |(_, errno)| Unsent::Source(*errno));
    let source = source.ok_or_else(nothing)?;
    Ok((Sent { sync, source, named }, top))
}

/// Tells what the words say that named the sources.
fn tell_named(named: &Named, wire: &Wire) {
    let warn = |text: String| wire.tell(Word::Warning { text, hint: None });
    for (word, errno) in &named.missing {
        warn(format!("SOURCE {} cannot be read: {}", quote(word), failure_text("read", *errno)));
    }
    for dir in &named.skipped {
        warn(format!("skipping directory {dir}"));
    }
    if named.spares {
        warn("nothing is deleted: what is missing may have held it".to_owned());
    }
}

/// Ends this process if no order comes in time; called off when what it returns is dropped.
fn limit_order() -> io::Result<Sender<()>> {
    let (in_time, waits) = bounded(0);
    std::thread::Builder::new().name("order".to_owned()).spawn(move || {
        if waits.recv_timeout(ORDER_LIMIT) == Err(RecvTimeoutError::Timeout) {
            std::process::exit(LATE_STATUS);
        }
    })?;
    Ok(in_time)
}

/// Reads what there is no way to once the process is confined.
fn know_host() {
    crate::disk::umask();
    crate::disk::boot_id();
}

fn refuse(wire: &Wire, why: Unsent) -> Result<(), SendError> {
    wire.send(&FromFar::Unsent(why.clone()))?;
    Err(SendError::Unsent(why))
}

/// Reads the order, in pieces.
fn order(reader: &mut FrameReader<impl Read>, wire: &Wire) -> Result<Result<PullOrder, Unsent>, SendError> {
    let (edition, len) = match reader.read::<ToReceiver<'_>>()? {
        ToReceiver::Wanted { edition, len } => (edition, len),
        ToReceiver::Hello(hello) => {
            let path = String::from_utf8_lossy(&hello.root).into_owned();
            let mut bytes = Vec::new();
            let refusal = Refusal::Root { path, errno: libc::EROFS };
            crate::protocol::FrameWriter::new(&mut bytes).send(&ToSender::Refused(refusal))?;
            wire.raw(&bytes)?;
            return Err(SendError::Sends);
        }
        _ => return Err(SendError::Sends),
    };
    if edition != PULL_EDITION {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        return Ok(Err(Unsent::Edition { edition: PULL_EDITION, program }));
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= ORDER_LEN_MAX);
    let len = len.ok_or(FrameError::TooLong(ORDER_LEN_MAX))?;
    let mut bytes = Vec::new();
    while bytes.len() < len {
        match reader.read::<ToFar<'_>>()? {
            ToFar::Data(piece) => bytes.extend_from_slice(&piece),
            _ => return Err(SendError::Sends),
        }
    }
    Ok(Ok(postcard::from_bytes(&bytes).map_err(FrameError::from)?))
}

/// Opens the source that an order names; with a root, beneath that alone, which is returned as well.
fn open(order: &PullOrder, options: &SendOptions) -> Result<(Arc<Source>, Option<Root>), Unsent> {
    let failed = |error: io::Error| match errno_of(&error) {
        libc::ENOTDIR => Unsent::NotDirectory,
        errno => Unsent::Source(errno),
    };
    let Some(dir) = &options.root else {
        let path = Path::new(OsStr::from_bytes(&order.source));
        if order.is_named && path.is_symlink() && !order.selection.links.follows_named() {
            return Err(Unsent::Link);
        }
        let top = Root::open(path).map_err(failed)?;
        let source = Source::open_beneath(
            (&top, path),
            &RelPath::root(),
            options.filter.clone(),
            (order.selection.links, false),
        );
        return Ok((source.map_err(failed)?, None));
    };
    let at = below(dir, &order.source).ok_or(Unsent::Outside)?;
    if options.filter.excludes(&at, true) {
        return Err(Unsent::Source(libc::ENOENT));
    }
    let top = Root::open(dir).map_err(failed)?;
    let source =
        Source::open_beneath((&top, dir), &at, options.filter.clone(), (order.selection.links, true));
    let source = source.map_err(|error| match errno_of(&error) {
        libc::ELOOP | libc::EXDEV => Unsent::Outside,
        libc::ENOTDIR if is_symlink(&top, &at) => Unsent::Outside,
        _ => failed(error),
    })?;
    Ok((source, Some(top)))
}

fn is_symlink(top: &Root, at: &RelPath) -> bool {
    let entry =
        top.parent(at).and_then(|parent| read_entry(parent.fd.as_fd(), parent.name, &Mask::nothing()));
    entry.is_ok_and(|entry| entry.is_some_and(|entry| entry.attrs.meta.kind == Kind::Symlink))
}

/// Returns where an asked path lies below `dir`: relative ones count from there. `None` if it does not lie there.
fn below(dir: &Path, asked: &[u8]) -> Option<RelPath> {
    let names = |path: &[u8]| -> Option<Vec<Vec<u8>>> {
        let names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        // What it leads to would be for the disk to say.
        names.map(|name| (name != b"..").then(|| name.to_vec())).collect()
    };
    let asked_names = names(asked)?;
    if !asked.starts_with(b"/") {
        return RelPath::new(asked_names.join(&b'/')).ok();
    }
    [std::path::absolute(dir).ok(), dir.canonicalize().ok()].into_iter().flatten().find_map(|dir| {
        let rest = asked_names.strip_prefix(names(dir.as_os_str().as_bytes())?.as_slice())?;
        RelPath::new(rest.join(&b'/')).ok()
    })
}

/// Makes the pass, and tells how it went.
fn pass(
    order: &PullOrder,
    Sent { sync, source, named }: Sent,
    (reader, wire): (FrameReader<BufReader<impl Read + Send + 'static>>, Arc<Wire>),
    (words, monitor): (Words, Arc<dyn Monitor>),
) -> Result<(), SendError> {
    let mailbox = Mailbox::new();
    let far = Far::new(Arc::clone(&wire));
    let (ear, stopped, teller) = (far.ear(), Arc::clone(&mailbox), Arc::clone(&wire));
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let said = move |said| {
        if matches!(said, Said::Stop) {
            stopped.close();
        }
    };
    thread("hear").spawn(move || ear.hear(reader, said)).map_err(own("start a thread"))?;
    thread("tell").spawn(move || teller.keep_telling()).map_err(own("start a thread"))?;
    tell_named(&named, &wire);
    if sync.selection.list_only {
        return list((&sync, &source, &named), &wire, &|| !mailbox.is_closed());
    }
    let with = (source, mailbox, monitor);
    let report = once_over(&sync, order.means.dry_run, with, Box::new(far));
    let Some(report) = report else { return Ok(()) };
    report.vanished.iter().for_each(|path| wire.tell(Word::Vanished(path.clone())));
    let mut account = account(&report, words);
    account.problems += named.missing.len() as u64;
    // A list has no top that rsync would count.
    account.is_list = named.is_list;
    wire.send(&FromFar::Done(Box::new(account)))?;
    Ok(())
}

/// Tells what would be sent.
fn list(
    (sync, source, named): (&Sync, &Arc<Source>, &Named),
    wire: &Wire,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), SendError> {
    // Each when it can be written: who reads slowly is not to fill the memory here.
    let told = list_source(sync, source, &mut |entry| {
        wire.send(&FromFar::Told(Box::new(Word::Itemized(entry)))).is_ok() && goes_on()
    });
    let told = match told {
        Ok(told) => told,
        Err(error) => return refuse(wire, Unsent::Rules(error.to_string())),
    };
    for (path, errno) in &told.problems {
        let (path, operation) = (path.clone(), "read".to_owned());
        wire.tell(Word::Problem { path, operation, errno: *errno, on_target: false });
    }
    let problems = (told.problems.len() + named.missing.len()) as u64;
    let source = Some((told.kinds, told.bytes));
    wire.send(&FromFar::Done(Box::new(Account {
        source,
        problems,
        is_list: named.is_list,
        ..Account::default()
    })))?;
    Ok(())
}

fn account(report: &TargetReport, words: Words) -> Account {
    Account {
        totals: report.totals,
        source: report.source.as_ref().map(|summary| (summary.kinds, summary.bytes)),
        problems: report.problems.len() as u64,
        held: report.held.is_some(),
        is_list: false,
        failure: report.error.as_ref().map(|error| failure(error, words)),
    }
}

fn failure(error: &SessionError, words: Words) -> Failure {
    match error {
        SessionError::Refused(refusal) => Failure::Refused(refusal.clone()),
        other => (words.failure)(other),
    }
}

/// Returns an order as a sync with one target.
fn sync_of(order: &PullOrder, path: &Path) -> Sync {
    let target = Target {
        host: None,
        path: b".".to_vec(),
        name: "target".to_owned(),
        makes: 0,
        may_lead: true,
        lands: None,
    };
    let PullOrder { mask, selection, guard, means, .. } = order.clone();
    let sync = Sync {
        mask,
        selection,
        filters: order.filters.iter().map(|rule| rule.to_vec()).collect(),
        delete: if order.deletes { DeleteMode::Always } else { DeleteMode::Never },
        guard,
        reconcile: Reconcile { interval: None, verify: order.verify },
        compress: means.compress,
        bwlimit: means.bwlimit,
        durability: means.durability,
        timeout: Duration::from_millis(means.timeout_ms),
        trash: means
            .trash
            .map(|trash| Trash { keep: Duration::from_secs(trash.keep_secs), max: trash.max_bytes }),
        partial: means.partial,
        removes: means.removes,
        sources: order.sources.clone(),
        beside: order.beside.clone(),
        backup: order.backup.clone(),
        ..Sync::new("source", path, vec![target])
    };
    match &order.live {
        Some(live) => live::sync_of(live, sync),
        None => sync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_asked_for_lies_below_the_root_or_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let asked = |text: &str| below(&dir, text.as_bytes()).map(|path| path.as_bytes().to_vec());
        let top = dir.display();
        for (text, expected) in [
            (".".to_owned(), Some("")),
            ("a/b/".to_owned(), Some("a/b")),
            ("./a//./b".to_owned(), Some("a/b")),
            (format!("{top}"), Some("")),
            (format!("{top}/a/"), Some("a")),
            (format!("{top}x/a"), None),
            (format!("{top}/../a"), None),
            ("/etc".to_owned(), None),
            ("../a".to_owned(), None),
            ("a/../../b".to_owned(), None),
            ("a/..".to_owned(), None),
            ("a\0b".to_owned(), None),
        ] {
            assert_eq!(asked(&text).as_deref(), expected.map(str::as_bytes), "{text:?}");
        }
    }
}
