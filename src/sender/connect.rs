//! Making a connection: the handshake, and what both sides will keep.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::error::SessionError;
use super::hello::{hello, stated_place};
use super::known::Before;
use super::lead::{Lead, Leading};
use super::mailbox::Mailbox;
use super::origin::{gives_way, origin, upstream};
use super::outbox::Outbox;
use super::owners::TargetView;
use super::progress::Found;
use super::replies::{self, Handover};
use super::session::{Session, SessionOptions, Surroundings};
use super::shared::Shared;
use super::source::Source;
use super::watermark::settled;
use super::widen::{First, widen};
use crate::disk::umask;
use crate::filter::Filter;
use crate::monitor::{Counters, Notice, Scope as About};
use crate::protocol::{
    FrameError, Hello, Holder, Identified, Refusal, ReplyHello, RootPlace, ToReceiver, VERSION,
    VERSION_BESIDE, VERSION_BUNDLE, VERSION_KEPT, VERSION_MIN, circle,
};
use crate::reconcile::Rules;
use crate::transport::{Control, Transport, ended_soon};
use crate::tree::{Chmod, Chown, OwnerMap, Owning};

/// Former identities that are tried with an agent which does not take them from the hello.
const FORMER_TRIED: usize = 2;

impl Session {
    /// Connects, and settles what both sides will keep. An agent that is missing is brought to the
    /// target where that is allowed.
    ///
    /// # Errors
    /// [`SessionError`]; see its variants for the consequence.
    pub fn connect(
        transport: &dyn Transport,
        options: SessionOptions,
        around: Surroundings,
    ) -> Result<Self, SessionError> {
        match Self::attempt(transport, &options, &around) {
            Err(SessionError::Ended(ended)) if transport.mend(&ended)? => {
                Self::attempt(transport, &options, &around)
            }
            Err(SessionError::Refused(foreign @ Refusal::Foreign { .. })) => {
                Self::as_before(transport, &options, &around).ok_or(SessionError::Refused(foreign))
            }
            other => other,
        }
    }

    /// Connects under a former identity: an agent of an older version asks for the very one that it knows.
    fn as_before(transport: &dyn Transport, options: &SessionOptions, around: &Surroundings) -> Option<Self> {
        let former = options.mirror.former.iter().take(FORMER_TRIED);
        former
            .map(|id| SessionOptions { mirror: (*id).into(), ..options.clone() })
            .find_map(|options| Self::attempt(transport, &options, around).ok())
    }

    fn attempt(
        transport: &dyn Transport,
        options: &SessionOptions,
        around: &Surroundings,
    ) -> Result<Self, SessionError> {
        let sync = &options.sync;
        let filter = filter_of(sync, around)?;
        let (chmod, chown) = changes_on_the_way(sync)?;
        let was_there = around.known.before().is_some();
        let hello = whole_hello(options, around)?;
        let led = hello.role.is_some();
        let link = transport.connect()?;
        let control: Arc<dyn Control> = Arc::from(link.control);
        let outbox = Outbox::new(link.writer, sync, Arc::clone(&around.status));
        let (greeted, greeting) = bounded(1);
        let (handover, shared_in) = bounded(1);
        let reader = link.reader;
        let thread = std::thread::Builder::new()
            .name("replies".to_owned())
            .spawn(move || replies::run(reader, &greeted, &shared_in))
            .map_err(|error| SessionError::Source(format!("start a thread: {error}")))?;
        let sent = outbox.greet(hello);
        let limit = sync.timeout.max(Duration::from_secs(10));
        let reply = match greeting.recv_timeout(limit) {
            Ok(Ok(reply)) => reply,
            Ok(Err(SessionError::Frame(FrameError::Closed | FrameError::Io(_)))) => {
                drop(outbox);
                return Err(SessionError::Ended(ended_soon(&control, || ())));
            }
            Ok(Err(error)) => {
                control.kill();
                return Err(heard_out(error, options, around));
            }
            Err(RecvTimeoutError::Timeout) => {
                control.kill();
                return Err(SessionError::Silent(limit));
            }
            Err(RecvTimeoutError::Disconnected) => {
                drop(outbox);
                return Err(SessionError::Ended(ended_soon(&control, || ())));
            }
        };
        sent?;
        let straight = suits(&reply, options, &around.source)
            .and_then(|()| goes_straight(&reply, options, &around.mailbox));
        let leading = match straight.and_then(|()| Leading::new(&around.lead, led, &reply, &options.target)) {
            Ok(leading) => leading,
            Err(error) => {
                control.kill();
                return Err(error);
            }
        };
        let (mut control, mut missing) = (control, None);
        if sync.connections > 1 && reply.version >= VERSION_BUNDLE && !options.dry_run {
            let first = First { outbox: &outbox, control, handover: &handover };
            (control, missing) = widen(transport, first, &options.target.path, (sync.connections, limit))?;
        }
        let shared = Self::shared(options, around, outbox, &reply, (filter, chmod, chown, leading));
        if let Some(volume) = reply.volume.as_ref().filter(|_| options.live) {
            around.known.was_on(Before { volume: volume.clone(), noted: false });
        }
        around.known.is_settled(|| settled(reply.watermark.as_deref(), &around.source));
        let _ = handover.send(Handover::Session(Arc::clone(&shared)));
        let unknown = shared.view.unknown_owners()?;
        if !unknown.is_empty() {
            control.kill();
            return Err(SessionError::Owner(unknown.join(" and no ")));
        }
        Counters::add(&shared.status.counters.connects, 1);
        tell_connected(&shared, &reply, missing);
        if was_there && options.live && reply.identified == Identified::Empty {
            tell_refilled(&shared);
        }
        Ok(Self::new(shared, control, thread, &reply))
    }

    fn shared(
        options: &SessionOptions,
        around: &Surroundings,
        outbox: Outbox,
        reply: &ReplyHello,
        parsed: (Filter, Chmod, Owning, Leading),
    ) -> Arc<Shared> {
        let sync = &options.sync;
        let selection = &sync.selection;
        let mask = sync.mask.both(reply.profile);
        let (filter, chmod, owning, leading) = parsed;
        Arc::new_cyclic(|shared: &std::sync::Weak<Shared>| {
            let asker = shared.clone();
            let ask = Box::new(move |names| {
                let Some(shared) = asker.upgrade() else { return false };
                let sent = shared.outbox.send(&ToReceiver::Owners(names));
                sent.and_then(|()| shared.outbox.flush()).is_ok()
            });
            Shared {
                about: About::new(&sync.name, &options.target.name),
                options: options.clone(),
                version: reply.version,
                mask,
                rules: Rules {
                    update: selection.update,
                    existing: selection.existing,
                    ignore_existing: selection.ignore_existing,
                    size_only: selection.size_only,
                    ignore_times: selection.ignore_times,
                    modify_window: selection.modify_window,
                    whole: false,
                },
                filter: Arc::new(filter),
                strange: AtomicBool::new(reply.identified == Identified::Stranger && !sync.adopted),
                source: Arc::clone(&around.source),
                gate: Arc::clone(&around.gate),
                mailbox: Arc::clone(&around.mailbox),
                outbox,
                window: Mutex::default(),
                view: TargetView::new(mask, chmod, owning, selection.numeric_ids, ask),
                status: Arc::clone(&around.status),
                held: Arc::clone(&around.held),
                monitor: Arc::clone(&around.monitor),
                feedback: Arc::clone(&around.feedback),
                mounts: Mutex::new(reply.mounts.iter().cloned().collect()),
                acked: AtomicU64::new(0),
                committed: AtomicU64::new(0),
                inbox: Mutex::default(),
                passes: Mutex::default(),
                passes_running: AtomicUsize::new(0),
                first_pass_done: AtomicBool::new(false),
                partials: Mutex::default(),
                found: Found::default(),
                known: Arc::clone(&around.known),
                leading,
                apart: Mutex::default(),
                old: Mutex::default(),
                told: Mutex::default(),
                borrowed: Mutex::default(),
            }
        })
    }
}

/// Returns which entries of the source take part.
fn filter_of(sync: &crate::config::Sync, around: &Surroundings) -> Result<Filter, SessionError> {
    let filter = Filter::new(&sync.filters).map_err(|error| SessionError::Option(error.to_string()))?;
    let filter = if sync.guard.delete_excluded { filter.with_delete_excluded() } else { filter };
    Ok(around.source.narrowed(filter))
}

/// Returns what the sender says first, with what is known of the target and of the source's role.
fn whole_hello(options: &SessionOptions, around: &Surroundings) -> Result<Hello, SessionError> {
    let mut hello = hello(options, stated_place(options, &around.source)?);
    if let Some(before) = around.known.before() {
        (hello.before, hello.noted) = (Some(before.volume), before.noted);
    }
    if options.live && !options.dry_run {
        refuse_beside_roles(options, &around.lead)?;
        hello.role = around.lead.begin()?;
    }
    Ok(hello)
}

/// Refuses options by which a standby may rightly differ from its primary: it could not be promoted.
fn refuse_beside_roles(options: &SessionOptions, lead: &Lead) -> Result<(), SessionError> {
    let selection = &options.sync.selection;
    let keys = [
        ("update", selection.update),
        ("existing", selection.existing),
        ("ignoreExisting", selection.ignore_existing),
        ("sizeOnly", selection.size_only),
        ("maxSize", selection.max_size.is_some()),
        ("minSize", selection.min_size.is_some()),
    ];
    match keys.iter().find(|(_, on)| *on) {
        Some((key, _)) if lead.leads().is_some() => Err(SessionError::Role {
            line: format!("nothing is sent: with {key}, a standby may differ from its primary"),
            hint: format!("remove {key} from the sync, or give its roles up: see speil help failover"),
        }),
        _ => Ok(()),
    }
}

/// Takes in what a target tells of generations with its refusal. Where its word does not count, neither does what it
/// says should be typed here.
fn heard_out(error: SessionError, options: &SessionOptions, around: &Surroundings) -> SessionError {
    match &error {
        SessionError::Refused(Refusal::Role { told: Some(told), .. }) => {
            around.lead.hear(told, &options.target).err().unwrap_or(error)
        }
        _ => error,
    }
}

/// Returns what `--chmod` and `--chown` change on the way.
fn changes_on_the_way(sync: &crate::config::Sync) -> Result<(Chmod, Owning), SessionError> {
    let mut chmod = Chmod::default();
    for text in &sync.selection.chmod {
        chmod.extend(Chmod::parse(text, umask()).map_err(|error| SessionError::Option(error.to_string()))?);
    }
    let chown = sync.selection.chown.as_deref().map(Chown::parse).transpose();
    let chown = chown.map_err(|error| SessionError::Option(format!("--chown: {error}")))?;
    let mut owning = Owning::from(chown.unwrap_or_default());
    let map = |option: &str, text: &String| {
        OwnerMap::parse(text).map_err(|error| SessionError::Option(format!("{option}: {error}")))
    };
    if let Some(text) = &sync.selection.usermap {
        owning.users = map("--usermap", text)?;
    }
    if let Some(text) = &sync.selection.groupmap {
        owning.groups = map("--groupmap", text)?;
    }
    Ok((chmod, owning))
}

/// Tells that there is a connection, and what is to be known of it. `missing`: why there are fewer than wanted.
fn tell_connected(shared: &Shared, reply: &ReplyHello, missing: Option<String>) {
    shared.status.connected(&reply.program, &reply.lacks);
    shared.notice(&Notice::Connected {
        program: reply.program.clone(),
        lacks: reply.lacks.clone(),
        confined: reply.confinement.words(),
    });
    if let Some(why) = missing {
        let text = format!("fewer connections than the {} wanted: {why}", shared.options.sync.connections);
        shared.notice(&Notice::Warning { text, hint: None });
    }
    if !reply.sent_away.is_empty() {
        let text = format!(
            "took the target over from {}, which has stated nothing for 5 s: end one of the two",
            reply.sent_away
        );
        shared.notice(&Notice::Warning { text, hint: None });
    }
    if reply.kept > 0 {
        shared.notice(&Notice::Kept { count: reply.kept });
    }
}

/// Tells that the target's directory is empty, though this mirror had been there.
fn tell_refilled(shared: &Shared) {
    shared.status.refills();
    let text = format!(
        "target directory {} was removed, or an empty one took its place: all of the source is sent again",
        shared.options.target
    );
    let hint = "what else was in it is lost, the trash as well: find out what removed it".to_owned();
    shared.notice(&Notice::Warning { text, hint: Some(hint) });
}

/// Whether no mirror comes back from the target; waits while it is not decided who [`gives_way`].
fn goes_straight(
    reply: &ReplyHello,
    options: &SessionOptions,
    mailbox: &Mailbox,
) -> Result<(), SessionError> {
    if !options.live || options.dry_run {
        return Ok(());
    }
    let since = Instant::now();
    loop {
        let Some((holder, trees)) = circle_from(reply, options) else { return Ok(()) };
        if gives_way(&holder, since, Instant::now()) || mailbox.is_closed() {
            return Err(SessionError::Refused(Refusal::Circle { trees }));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns who mirrors to the source from the target at this moment, by way of others or not, and the circle.
fn circle_from(reply: &ReplyHello, options: &SessionOptions) -> Option<(Holder, Vec<String>)> {
    let root = RootPlace { boot_id: reply.boot_id.clone(), lineage: reply.lineage.clone() };
    let holder = upstream(&options.sync.source)?;
    let mut trees = circle(&holder.chain, &root)?;
    trees.push(origin(options).name);
    Some((holder, trees))
}

/// Whether a session can be had with an agent that greets like this.
fn suits(reply: &ReplyHello, options: &SessionOptions, source: &Source) -> Result<(), SessionError> {
    if !(VERSION_MIN..=VERSION).contains(&reply.version) {
        let (newest, program) = (reply.version, reply.program.clone());
        return Err(SessionError::Refused(Refusal::Version { newest, program }));
    }
    if options.sync.trash.is_some() && reply.version < VERSION_KEPT && !options.dry_run {
        let text = format!("speil {:?} has no trash: upgrade it, or mirror without", reply.program);
        return Err(SessionError::Fatal(text));
    }
    let sync = &options.sync;
    if (sync.beside.is_some() || sync.backup.is_some()) && reply.version < VERSION_BESIDE {
        let text = format!("speil {:?} knows no --link-dest and no --backup: upgrade it", reply.program);
        return Err(SessionError::Fatal(text));
    }
    let is_here = crate::disk::boot_id() == reply.boot_id;
    if is_here && source.overlaps(&reply.lineage) {
        return Err(SessionError::Refused(Refusal::Nested));
    }
    Ok(())
}
