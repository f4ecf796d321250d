//! `speil promote`, `speil demote` and `speil rejoin`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::barred::{barred, barred_by, is_same};
use super::plan::Plan;
use super::reach::one_target;
use super::{complain_text, note, print};
use crate::cli::exit::Exit;
use crate::cli::verbs::{Demote, Promote, Rejoin, Which};
use crate::config::{self, Sync};
use crate::daemon::{mirror_id, transport_of};
use crate::failover::{Asks, Done, FailoverError, Outcome, Progress, Tending, Unhanded};
use crate::monitor::{counted, sized, spanned};
use crate::protocol::RoleTold;
use crate::role::{
    Answer, Answered, Around, Barred, Command, Force, Generation, Here, HostName, Leader, Others, Record,
    Role,
};
use crate::sender::{Lead, SessionError, SessionOptions, Stand, ask, of_nobody};
use crate::transport::Uploads;

/// How long a primary has for what is left, where nobody says.
const WAIT: Duration = Duration::from_secs(5);
/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

/// A tree, as it was named.
struct Named {
    root: PathBuf,
    here: Here,
    sync: Option<Sync>,
    /// The primary that the tree is brought to.
    leader: Option<HostName>,
}

/// Makes a tree primary.
pub(super) fn promote(it: &Promote) -> u8 {
    let mut named = match named(&it.which) {
        Ok(named) => named,
        Err(code) => return code,
    };
    let force = it.force.unwrap_or(Force::No);
    let barred = match &named.sync {
        Some(sync) => barred(sync),
        None => barred_from(&mut named, &it.which.config),
    };
    let done = Tending::of(&named.root).and_then(|tree| {
        let around = around(&tree, &named, barred)?;
        // Only what force gets past is told; the rest is a refusal all the same.
        if force != Force::No
            && tree.plan_promotion(&around, force).is_ok()
            && let Err(FailoverError::Refused(told)) = tree.plan_promotion(&around, Force::No)
        {
            note(&format!("forced although {}", told.line));
        }
        let done = if it.which.dry_run { tree.plan_promotion(&around, force) } else { tree.promote(&around, force, &asks(it, force)) };
        let leads = matches!(&done, Ok(outcome) if outcome.role == Some(Role::Primary));
        if leads && !it.which.dry_run && !tree.is_confirmed() {
            let force = named.here.types(&Command::Promote(Force::Yes));
            note(&format!(
                "no other host has answered since the boot, and until one does `speil health` is 30; {force} makes it \
                 0, if the others hold nothing younger"
            ));
        }
        done
    });
    told(&named, &it.which, "promote", done, None)
}

/// Returns how a promotion asks a primary that sends to the tree.
fn asks(it: &Promote, force: Force) -> Asks<'static> {
    Asks {
        limit: if it.no_hand_over { Duration::ZERO } else { it.wait.unwrap_or(WAIT) },
        insists: it.wait.is_some(),
        leaves_doubts: force != Force::No,
        tell: &under_way,
    }
}

/// Says what is under way.
fn under_way(progress: &Progress) {
    match progress {
        Progress::Verifies(host, (files, bytes), about) => {
            let (files, bytes) = (counted(*files, "file", "files"), sized(*bytes));
            let about = about.map(|about| format!(", about {}", spanned(about.as_secs().max(1))));
            let about = about.unwrap_or_default();
            note(&format!("{host} verifies {files}, {bytes}, before it hands over{about}"));
        }
        Progress::Handed(host) => note(&format!("{host} has handed over: everything that it had is here")),
        Progress::GoesOn(Unhanded { line, hint, .. }) => {
            let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
            note(&format!(
                "taken over without a hand-over: {line}{hint}; what it has not sent is kept aside there when it is a \
                 standby again"
            ));
        }
    }
}

/// Returns who may lead instead, if the configuration has the tree and does not let this host lead it. A tree that is
/// named by its directory needs no configuration; one that cannot be read keeps nobody from leading.
fn barred_from(named: &mut Named, config: &Path) -> Option<Barred> {
    match barred_by(config, &named.root) {
        Ok(found) => {
            let (sync, barred) = found?;
            named.here.there = Some(sync);
            Some(barred)
        }
        Err(error) => {
            note(&format!("whether this host may lead is not known: {error}"));
            None
        }
    }
}

/// Makes a tree a standby.
pub(super) fn demote(it: &Demote) -> u8 {
    let named = match named(&it.which) {
        Ok(named) => named,
        Err(code) => return code,
    };
    let done = Tending::of(&named.root)
        .and_then(|tree| if it.which.dry_run { tree.plan_demotion() } else { tree.demote() });
    told(&named, &it.which, "demote", done, None)
}

/// Brings a tree to what another host leads.
pub(super) fn rejoin(it: &Rejoin) -> u8 {
    let (sync, word) = match (&it.root, &it.words[..]) {
        (Some(_), [word]) => (None, Some(word)),
        (None, [sync]) => (Some(sync.clone()), None),
        (None, [sync, host]) => (Some(sync.clone()), Some(host)),
        _ => {
            complain_text("--root takes one more word", Some("say where the other host's tree is"));
            return Exit::Syntax.code();
        }
    };
    let (root, config) = (it.root.clone(), it.config.clone());
    let which = Which { sync, root, config, dry_run: it.dry_run || it.plan, json: it.json };
    match named(&which).and_then(|named| rejoin_named(it, &which, named, word)) {
        Ok(code) | Err(code) => code,
    }
}

fn rejoin_named(it: &Rejoin, which: &Which, mut named: Named, word: Option<&String>) -> Result<u8, u8> {
    let (sync, host) = match (&named.sync, word) {
        (Some(sync), host) => (sync.clone(), host),
        // As hints name it: a host alone.
        (None, Some(word)) if !word.contains(['/', ':']) => (configured(it, &named.root, word)?, Some(word)),
        (None, target) => (one_target(target.map_or("", |it| it).as_ref(), &named.root, &it.reach)?, None),
    };
    // An address that was typed says nothing of hosts that it does not name.
    let chosen = chosen(&sync, &named.root, host, named.sync.is_some() || host.is_some())?;
    named.here.there = Some(Here::root(&String::from_utf8_lossy(&chosen.target.path)).tree);
    named.leader = Some(chosen.host.clone());
    let done = Tending::of(&named.root)
        .and_then(|tree| tree.rejoin(&chosen.host, chosen.led.as_ref().map_err(Clone::clone), which.dry_run));
    // What is refused need not be compared.
    let plan = (it.plan && done.is_ok())
        .then(|| Plan::of(&Sync { source: named.root.clone(), ..sync.clone() }, &chosen.target));
    Ok(told(&named, which, "rejoin", done, plan.as_ref()))
}

/// Returns the sync of the configuration that has this tree as its source, and of several the one that names the host.
fn configured(it: &Rejoin, root: &Path, host: &str) -> Result<Sync, u8> {
    let names = |sync: &Sync| sync.targets.iter().any(|target| target.name == host);
    let loaded = config::load(&it.config);
    let why = match &loaded {
        Ok(loaded) => {
            let of_tree = || loaded.config.syncs.iter().filter(|sync| is_same(&sync.source, root));
            match of_tree().find(|sync| names(sync)).or_else(|| of_tree().next()) {
                Some(sync) => return Ok(sync.clone()),
                None => "it has no sync of this tree".to_owned(),
            }
        }
        Err(error) => error.to_string(),
    };
    let (root, config) = (root.display(), it.config.display());
    complain_text(
        &format!("how {host} is reached is not known: {config}: {why}"),
        Some(&format!(
            "say where its tree is: speil rejoin --root {root} [USER@]{host}:{root}; or which configuration has the \
             sync: --config"
        )),
    );
    Err(Exit::Syntax.code())
}

/// The host that `rejoin` means.
struct Chosen {
    host: HostName,
    /// How its tree is reached.
    target: config::Target,
    /// What it leads, or who leads instead.
    led: Result<Generation, Leader>,
}

/// Asks the hosts of a sync, and returns of all of them, or of those of this name, the one that leads, else the first.
/// `all`: the sync names every other host.
fn chosen(sync: &Sync, root: &Path, name: Option<&String>, all: bool) -> Result<Chosen, u8> {
    if let Some(name) = name {
        known_or_asked(sync, name)?;
    }
    let lead = Lead::of_sync(&Sync { source: root.to_owned(), ..sync.clone() });
    let (mut found, mut meant, mut everybody) = (Vec::new(), Vec::new(), all);
    for target in &sync.targets {
        let (answers, told) = asked(sync, target, &lead);
        everybody &= answers;
        let Some(other) = told.as_ref().and_then(answered_by) else { continue };
        let is_meant = |name: &String| *name == target.name || *name == other.host.to_string();
        if let Some(name) = name.filter(|name| is_meant(name) && !target.may_lead) {
            complain_text(
                &format!("{name} never leads: its entry in hosts has mayLead = false"),
                Some(
                    "name the host that leads; if that one's tree is to be the truth, remove mayLead = false first",
                ),
            );
            return Err(Exit::Selection.code());
        }
        if target.may_lead && name.is_none_or(is_meant) {
            meant.push((other.clone(), target.clone()));
        }
        if target.may_lead {
            found.push(other);
        }
    }
    if meant.iter().filter(|(other, _)| other.leads().is_some()).count() > 1 {
        complain_text("several hosts lead", Some("name the one that is the truth"));
        return Err(Exit::Syntax.code());
    }
    let best = meant.iter().position(|(other, _)| other.leads().is_some()).unwrap_or(0);
    let Some((other, target)) = meant.get(best).cloned() else {
        let hint = "start it, or name another one: a target of the sync, or the host's own name";
        complain_text("no such host answers that has a role", Some(hint));
        return Err(Exit::Connection.code());
    };
    let own = match lead.stand() {
        Stand::Leads(told) => answered_by(&told),
        _ => None,
    };
    let instead = || Leader::instead_of(&other, own.as_ref(), &found, everybody);
    let led = other.leads().cloned().ok_or_else(instead);
    Ok(Chosen { host: other.host, target, led })
}

/// Says before anybody is asked that no target has a name; where `hosts` names all hosts, that is the end of it.
fn known_or_asked(sync: &Sync, name: &str) -> Result<(), u8> {
    let label = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let names: Vec<&str> = sync.targets.iter().map(|target| target.name.as_str()).collect();
    if names.iter().any(|known| label(known) == label(name)) {
        return Ok(());
    }
    let names = names.join(", ");
    if sync.hosts.is_none() {
        note(&format!("no target is called {name}: {names} are asked what they are called"));
        return Ok(());
    }
    complain_text(
        &format!("no other host {name} in hosts of {}", sync.name),
        Some(&format!("it has {names}")),
    );
    Err(Exit::Syntax.code())
}

fn answered_by(told: &RoleTold) -> Option<Answered> {
    let record = Record::from_text(told.record.as_bytes()).ok()?;
    Some(Answered { host: HostName::new(&told.host), record })
}

fn named(which: &Which) -> Result<Named, u8> {
    let Some(name) = &which.sync else {
        let root = which.root.clone().unwrap_or_default();
        let root = std::path::absolute(&root).unwrap_or(root);
        let here = Here::root(&root.display().to_string());
        return Ok(Named { root, here, sync: None, leader: None });
    };
    let loaded = config::load(&which.config).map_err(|error| {
        super::complain(&error, error.hint().as_deref());
        Exit::Syntax.code()
    })?;
    let Some(sync) = loaded.config.syncs.iter().find(|sync| sync.name == *name) else {
        let names: Vec<&str> = loaded.config.syncs.iter().map(|sync| sync.name.as_str()).collect();
        let config = which.config.display();
        complain_text(
            &format!("no sync {name:?} in {config}"),
            Some(&format!("it has {}; a tree without a configuration: --root DIR", names.join(", "))),
        );
        return Err(Exit::Syntax.code());
    };
    let here = Here::of(name.clone());
    Ok(Named { root: sync.source.clone(), here, sync: Some(sync.clone()), leader: None })
}

/// Returns what is known besides the record. A tree without a role, or whose host has heard from nobody since the boot,
/// has the others asked, where a configuration names them.
fn around(tree: &Tending, named: &Named, barred: Option<Barred>) -> Result<Around, FailoverError> {
    // What cannot be read is for the verb to judge.
    let has_role = !matches!(tree.record(), Ok(None));
    let mut others = Others::Unconfigured;
    let asks = barred.is_none() && (!has_role || !tree.is_confirmed());
    if let Some(sync) = named.sync.as_ref().filter(|_| asks) {
        let lead = Lead::of_sync(sync);
        others = Others::Asked(
            sync.targets.iter().map(|target| answered(sync, target, asked(sync, target, &lead))).collect(),
        );
    }
    Ok(Around { confirmed: tree.is_confirmed(), barred, group: None, others })
}

/// Returns what an answer says of a host's tree.
fn answered(
    sync: &Sync,
    target: &config::Target,
    (answers, told): (bool, Option<RoleTold>),
) -> (HostName, Answer) {
    let answer = match told {
        _ if !answers => Answer::Silent,
        None => Answer::Plain,
        Some(told) => Record::from_text(told.record.as_bytes())
            .map_or(Answer::Silent, |record| Answer::Role(record.n())),
    };
    let name = if sync.hosts.is_some() { target.name.clone() } else { target.to_string() };
    (HostName::new(&name), answer)
}

/// Asks one host, and takes in what it tells. Returns whether it answers, and what it tells of its tree.
fn asked(sync: &Sync, target: &config::Target, lead: &Lead) -> (bool, Option<RoleTold>) {
    let own = match lead.stand() {
        Stand::Leads(told) | Stand::Waits { told: Some(told), .. } => told,
        // Who has no role knows of no generation; nor does it count what a host tells that may not lead.
        _ => of_nobody(),
    };
    let options = SessionOptions {
        sync: sync.clone(),
        target: target.clone(),
        mirror: mirror_id(sync, target),
        live: false,
        dry_run: true,
        rehearsal: false,
    };
    let answer = transport_of(sync, target, Uploads::default())
        .map_err(SessionError::from)
        .and_then(|transport| ask(&*transport, &options, &own));
    match answer {
        Err(error) => {
            note(&format!("{target}: {error}"));
            (false, None)
        }
        Ok(None) => (true, None),
        Ok(Some(told)) => {
            if let Err(error) = lead.hear(&told, target) {
                note(&format!("{target}: {error}"));
            }
            (true, Some(told))
        }
    }
}

fn told(
    named: &Named,
    which: &Which,
    verb: &str,
    done: Result<Outcome, FailoverError>,
    plan: Option<&Plan>,
) -> u8 {
    let root = crate::tree::quote(named.root.as_os_str().as_encoded_bytes());
    let root = root.trim_matches('"');
    match done {
        Ok(outcome) => {
            if which.json {
                print_json(&json!({
                    "schema": SCHEMA, "verb": verb, "root": root, "dry_run": which.dry_run,
                    "done": word(outcome.done), "role": outcome.role.map(Role::word),
                    "generation": outcome.generation.as_ref().map(crate::role::Generation::n),
                    "error": null, "type": [], "plan": plan.map(Plan::json),
                }));
            } else {
                print(&format!("{root}: {}\n", said(&outcome, which.dry_run, named.leader.as_ref())));
                if let Some(plan) = plan {
                    let leader = named.leader.as_ref().map(ToString::to_string).unwrap_or_default();
                    print(&plan.text(&leader));
                }
            }
            plan.map_or(&[][..], |plan| &plan.errors).iter().for_each(|error| note(error));
            let whole = plan.is_none_or(|plan| plan.kept == 0 && plan.errors.is_empty());
            if whole { Exit::Success.code() } else { Exit::Partial.code() }
        }
        Err(error) => {
            let (exit, ways) = match &error {
                FailoverError::Refused(told) => (Exit::Selection, told.ways.clone()),
                FailoverError::Root { .. } => (Exit::Selection, Vec::new()),
                FailoverError::File(_) => (Exit::File, Vec::new()),
                FailoverError::Busy(_) | FailoverError::Unhanded(_) => (Exit::Timeout, Vec::new()),
            };
            if which.json {
                let ways: Vec<Value> = ways
                    .iter()
                    .map(|way| json!({ "command": named.here.types(&way.0), "does": way.1 }))
                    .collect();
                print_json(&json!({
                    "schema": SCHEMA, "verb": verb, "root": root, "dry_run": which.dry_run,
                    "done": null, "role": null, "generation": null,
                    "error": error.to_string(), "type": ways,
                }));
            } else {
                let hint = match &error {
                    FailoverError::Refused(told) => told.hint(&named.here),
                    FailoverError::Unhanded(unhanded) => Some(not_handed(unhanded, &named.here)),
                    _ => None,
                };
                complain_text(&format!("{root}: {error}; nothing was changed"), hint.as_deref());
            }
            exit.code()
        }
    }
}

/// Returns what may be typed where a primary did not hand over.
fn not_handed(unhanded: &Unhanded, here: &Here) -> String {
    let promote = here.types(&Command::Promote(Force::No));
    let takes = format!(
        "{promote}, without --wait, takes over at once, and what was not sent is kept aside there when it is a standby \
         again"
    );
    let first = match unhanded {
        Unhanded { hint, .. } if !hint.is_empty() => format!("{hint}; "),
        Unhanded { unsure: true, .. } => {
            "if it hands over yet, nobody leads until this is typed: ".to_owned()
        }
        _ => String::new(),
    };
    first + &takes
}

fn print_json(value: &Value) {
    print(&(serde_json::to_string_pretty(value).unwrap_or_default() + "\n"));
}

fn word(done: Done) -> &'static str {
    match done {
        Done::Already => "already",
        Done::Overtaken => "overtaken",
        Done::Kept => "kept",
        Done::Made => "made",
        Done::Stepped => "stepped",
        Done::Joined => "joined",
        Done::Chosen => "chosen",
    }
}

fn said(outcome: &Outcome, plan: bool, leader: Option<&HostName>) -> String {
    let n = outcome.generation.as_ref().map_or(0, crate::role::Generation::n);
    let is = if plan { "would be" } else { "is" };
    match outcome.done {
        Done::Already => match outcome.role {
            Some(Role::Primary) => format!("is primary of generation {n} already"),
            _ if n == 0 => "is a standby already, and was never in step with a primary".to_owned(),
            _ => format!("is a standby at generation {n} already"),
        },
        Done::Overtaken => "another verb was typed after this one, and holds".to_owned(),
        Done::Kept => format!("{is} primary of its own generation {n} again: nobody has led since"),
        Done::Made => format!("{is} primary of generation {n}, a new one"),
        Done::Stepped => format!("{is} a standby at generation {n}, and sends nothing any more"),
        Done::Chosen => {
            let leader = leader.map_or_else(|| "the primary that was chosen".to_owned(), ToString::to_string);
            format!("{is} a standby that waits for {leader}; then what only it holds is kept aside")
        }
        Done::Joined => {
            format!("{is} a standby that was never in step: it waits for a primary, and sends nothing")
        }
    }
}
