//! The user's Lua, on a thread of its own.
//!
//! **Purpose:** jobs in → their results out, as messages to the engine. **Invariants:** every job is a
//! coroutine that gives way after a slice of instructions, so a function that does not end keeps only its
//! own sync waiting (a call into C that does not return keeps all functions waiting, but no built-in layer).
//! **Not here:** what scripts see, which is `lua/events.lua`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mlua::chunk::ChunkMode;
use mlua::thread::ThreadStatus;
use mlua::{Function, HookTriggers, Lua, MultiValue, Table, Thread, Value, VmState};

use super::calls::Call;
use super::core::{Core, Job, JobKind, Message};
use super::delays::{Delay, Etype, Id, Status, Take};
use super::{command, layers};
use crate::config::{DISPATCH, VALUES, Verdict, read_directory, script_epoch, text_of};

const PRELUDE: &str = include_str!("../../lua/events.lua");

/// Instructions after which a coroutine gives way.
const SLICE: u32 = 200_000;

/// The shared state.
pub type SharedCore = Arc<Mutex<Core>>;

/// Locks the shared state; what a thread that panicked left is still consistent enough to end in order.
pub fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread; it ends when the sender of jobs is dropped. Once `over` is set, what still runs there
/// is given up.
///
/// # Errors
/// Lua's, if the state is out of memory; the system's, if there can be no thread.
pub fn start(lua: Lua, core: &SharedCore, over: Arc<AtomicBool>) -> Result<Sender<Job>, String> {
    let engine = lock(core).engine.clone();
    let run = prepare(&lua, core).map_err(|error| text_of(&error))?;
    let (sender, jobs) = crossbeam_channel::bounded(4096);
    std::thread::Builder::new()
        .name("speil-script".to_owned())
        .spawn(move || work(&lua, &run, &jobs, &(engine, over)))
        .map_err(|error| error.to_string())?;
    Ok(sender)
}

fn prepare(lua: &Lua, core: &SharedCore) -> mlua::Result<Function> {
    let host = host(lua, core, script_epoch())?;
    let chunk = lua.load(PRELUDE).set_name("=events").set_mode(ChunkMode::Text);
    let values: Table = lua.named_registry_value(VALUES)?;
    let parts: Table = chunk.call((host, values))?;
    lua.set_named_registry_value(DISPATCH, parts.get::<Function>("call")?)?;
    parts.get("run")
}

fn work(
    lua: &Lua,
    run: &Function,
    jobs: &Receiver<Job>,
    (engine, over): &(Sender<Message>, Arc<AtomicBool>),
) {
    let mut active: Vec<(Job, Thread, Option<MultiValue>)> = Vec::new();
    loop {
        if active.is_empty() {
            let Ok(job) = jobs.recv() else { return };
            begin(lua, run, job, engine, &mut active);
        }
        while let Ok(job) = jobs.try_recv() {
            begin(lua, run, job, engine, &mut active);
        }
        active.retain_mut(|(job, thread, arguments)| {
            let result = thread.resume::<MultiValue>(arguments.take().unwrap_or_default());
            if over.load(Ordering::Relaxed) {
                return false;
            }
            if result.is_ok() && thread.status() == ThreadStatus::Resumable {
                return true;
            }
            let result = result.map_err(|error| text_of(&error)).map(|values| match values.front() {
                Some(Value::String(word)) => Verdict::from_word(&word.as_bytes()),
                _ => None,
            });
            // Without an engine nobody waits for it.
            let _ = engine.send(Message::Done(job.clone(), result));
            false
        });
    }
}

type Active = Vec<(Job, Thread, Option<MultiValue>)>;

fn begin(lua: &Lua, run: &Function, job: Job, engine: &Sender<Message>, active: &mut Active) {
    match coroutine(lua, run, &job) {
        Ok((thread, arguments)) => active.push((job, thread, Some(arguments))),
        Err(error) => {
            let _ = engine.send(Message::Done(job, Err(text_of(&error))));
        }
    }
}

fn coroutine(lua: &Lua, run: &Function, job: &Job) -> mlua::Result<(Thread, MultiValue)> {
    let thread = lua.create_thread(run.clone())?;
    let triggers = HookTriggers::new().every_nth_instruction(SLICE);
    thread.set_hook(triggers, |_, _| Ok(VmState::Yield))?;
    let sync = job.sync.and_then(|at| i64::try_from(at).ok()).map_or(Value::Nil, Value::Integer);
    let id = |id: Id| Value::Integer(i64::try_from(id).unwrap_or_default());
    let (kind, rest) = match &job.kind {
        JobKind::Action => ("action", Vec::new()),
        JobKind::Whole(entry) | JobKind::On(entry) => ("event", vec![id(*entry)]),
        JobKind::Collect { ids, list, code } => {
            let ids = lua.create_sequence_from(ids.iter().copied())?;
            let code = Value::Integer((*code).into());
            ("collect", vec![Value::Table(ids), Value::Boolean(*list), code])
        }
        JobKind::Alarm(_) => ("alarm", Vec::new()),
        JobKind::Ready(fd) => ("fd", vec![Value::Integer((*fd).into())]),
    };
    let mut arguments =
        vec![Value::String(lua.create_string(kind)?), Value::Function(job.function.clone()), sync];
    arguments.extend(rest);
    Ok((thread, MultiValue::from_vec(arguments)))
}

fn host(lua: &Lua, core: &SharedCore, epoch: Instant) -> mlua::Result<Table> {
    let host = lua.create_table()?;
    queue_functions(lua, &host, core)?;
    event_functions(lua, &host, core)?;
    layer_functions(lua, &host, core)?;
    rule_functions(lua, &host, core)?;
    system_functions(lua, &host, core, epoch)?;
    Ok(host)
}

/// Functions that look at the queue and change it.
fn queue_functions(lua: &Lua, host: &Table, core: &SharedCore) -> mlua::Result<()> {
    let shared = Arc::clone(core);
    host.set(
        "first",
        lua.create_function(move |_, at: usize| {
            let core = lock(&shared);
            Ok(core.syncs.get(at).and_then(|sync| sync.due(Instant::now())).map(|(id, _)| id))
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "batch",
        lua.create_function(move |_, (at, wanted): (usize, Option<Vec<Id>>)| {
            let core = lock(&shared);
            let wanted: Option<std::collections::HashSet<Id>> = wanted.map(|ids| ids.into_iter().collect());
            let take = |id: Id, _: &Delay| match &wanted {
                Some(wanted) if !wanted.contains(&id) => Take::No,
                _ => Take::Yes,
            };
            Ok(core.syncs.get(at).map(|sync| sync.delays.batch(take)).unwrap_or_default())
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "discard",
        lua.create_function(move |_, (at, id): (usize, Id)| {
            let mut core = lock(&shared);
            let waits = core.waits(at, id);
            if waits {
                core.discard(at, id);
            } else {
                core.log.line("Error", "Ignored cancel of an event that is not waiting");
            }
            Ok(waits)
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "whole",
        lua.create_function(move |_, (at, kind): (usize, String)| {
            let etype = if kind == "Full" { Etype::Full } else { Etype::Blanket };
            let mut core = lock(&shared);
            Ok(core.syncs.get_mut(at).map(|sync| sync.delays.push_whole(etype, None)))
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "spawn",
        lua.create_function(
            move |_,
                  (at, ids, list, program, words, input): (
                usize,
                Vec<Id>,
                bool,
                mlua::LuaString,
                Vec<mlua::LuaString>,
                mlua::LuaString,
            )| {
                let call = Call {
                    program: program.as_bytes().to_vec(),
                    arguments: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
                    input: input.as_bytes().to_vec(),
                };
                Ok(spawn(&mut lock(&shared), at, ids, list, call).err())
            },
        )?,
    )
}

/// Spawns for a script, under lsyncd's conditions.
fn spawn(core: &mut Core, at: usize, ids: Vec<Id>, list: bool, call: Call) -> Result<(), &'static str> {
    let entries: Vec<Option<Status>> = match core.syncs.get(at) {
        Some(sync) => ids.iter().map(|id| sync.delays.get(*id).map(|entry| entry.status)).collect(),
        None => return Err("spawning with an invalid agent"),
    };
    let free = |status: &Option<Status>| match status {
        Some(Status::Wait) => true,
        Some(Status::Block) => list,
        _ => false,
    };
    if !entries.iter().all(free) {
        return Err("spawn() called on an event that does not wait");
    }
    if core.processes_max.is_some_and(|most| core.children() >= most) {
        return Err("Spawned too much processes!");
    }
    core.spawn(at, ids, list, call);
    Ok(())
}

/// Functions that say what an event is.
fn event_functions(lua: &Lua, host: &Table, core: &SharedCore) -> mlua::Result<()> {
    let shared = Arc::clone(core);
    host.set(
        "config",
        lua.create_function(move |_, at: usize| {
            Ok(lock(&shared).syncs.get(at).map(|sync| sync.spec.table.clone()))
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "is_move",
        lua.create_function(move |_, (at, id): (usize, Id)| {
            let core = lock(&shared);
            let entry = core.syncs.get(at).and_then(|sync| sync.delays.get(id));
            Ok(entry.is_some_and(|entry| entry.etype == Etype::Move))
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "entry",
        lua.create_function(move |lua, (at, id): (usize, Id)| {
            let entry = lock(&shared).syncs.get(at).and_then(|sync| sync.delays.get(id)).cloned();
            let Some(entry) = entry else { return Ok((None, None, None)) };
            let path2 = entry.path2.map(|path| lua.create_string(path)).transpose()?;
            Ok((Some(entry.etype.word()), Some(lua.create_string(entry.path)?), path2))
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "field",
        lua.create_function(move |lua, (at, id, destination, name): (usize, Id, bool, String)| {
            let found = {
                let core = lock(&shared);
                core.syncs.get(at).map(|sync| (Arc::clone(&sync.spec), sync.delays.get(id).cloned()))
            };
            let Some((spec, entry)) = found else { return Ok((false, Value::Nil)) };
            // An entry that is done still has its fields in `collect`, but not after it.
            let Some(entry) = entry else { return Ok((false, Value::Nil)) };
            field(lua, &spec, &entry, destination, &name)
        })?,
    )
}

fn field(
    lua: &Lua,
    spec: &crate::config::LsyncdSync,
    entry: &Delay,
    destination: bool,
    name: &str,
) -> mlua::Result<(bool, Value)> {
    let second = entry.path2.as_deref().filter(|_| destination);
    let path = second.unwrap_or(&entry.path);
    let text = |text: &[u8]| lua.create_string(text).map(Value::String);
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    let cut = inner.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let value = match name {
        "etype" => text(entry.etype.word().as_bytes())?,
        "status" => text(entry.status.word().as_bytes())?,
        "isdir" => Value::Boolean(path.ends_with(b"/")),
        "name" | "basename" if path.is_empty() => Value::Nil,
        "name" => text(path.get(cut..).unwrap_or_default())?,
        "basename" => text(inner.get(cut..).unwrap_or_default())?,
        "target" => spec.target.as_ref().map_or(Ok(Value::Nil), |target| text(target))?,
        other => match command::field(&layers::names(spec, entry), path, other) {
            Some(value) => text(&value)?,
            None => return Ok((false, Value::Nil)),
        },
    };
    Ok((true, value))
}

/// Functions by which a script calls the built-in layers.
fn layer_functions(lua: &Lua, host: &Table, core: &SharedCore) -> mlua::Result<()> {
    let shared = Arc::clone(core);
    host.set(
        "judge",
        lua.create_function(move |_, (at, ids, list, code): (usize, Vec<Id>, bool, i32)| {
            Ok(layers::judge_word(layers::judge(&mut lock(&shared), at, &ids, list, Ok(code))))
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "part",
        lua.create_function(move |_, (at, name): (usize, String)| {
            let part = match name.as_str() {
                "Init" => crate::config::Builtin::Init,
                "RsyncAction" => crate::config::Builtin::RsyncAction,
                "RsyncInit" => crate::config::Builtin::RsyncInit,
                "RsyncFull" => crate::config::Builtin::RsyncFull,
                "SshAction" => crate::config::Builtin::SshAction,
                "DirectAction" => crate::config::Builtin::DirectAction,
                _ => crate::config::Builtin::Action,
            };
            Ok(match layers::run(&mut lock(&shared), at, part) {
                Some(Job { kind: JobKind::On(id), function, .. }) => (Some(function), Some(id)),
                _ => (None, None),
            })
        })?,
    )
}

/// Functions that change what is excluded.
fn rule_functions(lua: &Lua, host: &Table, core: &SharedCore) -> mlua::Result<()> {
    let shared = Arc::clone(core);
    host.set(
        "rule",
        lua.create_function(move |_, (at, what, rule): (usize, String, mlua::LuaString)| {
            let mut core = lock(&shared);
            let Some(sync) = core.syncs.get_mut(at) else { return Ok(()) };
            let rule = rule.as_bytes().to_vec();
            match what.as_str() {
                "add" => sync.rules.1.push(rule),
                "rm" => sync.rules.1.retain(|other| *other != rule),
                _ => sync.rules.0.push(rule),
            }
            sync.rules_changed();
            Ok(())
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "rules",
        lua.create_function(move |lua, (at, which): (usize, String)| {
            let rules = lock(&shared).syncs.get(at).map(|sync| sync.rules.clone()).unwrap_or_default();
            let rules = if which == "filter" { rules.0 } else { rules.1 };
            let rules: mlua::Result<Vec<_>> = rules.iter().map(|rule| lua.create_string(rule)).collect();
            rules
        })?,
    )
}

/// Functions that reach the system.
fn system_functions(lua: &Lua, host: &Table, core: &SharedCore, epoch: Instant) -> mlua::Result<()> {
    let shared = Arc::clone(core);
    host.set(
        "log",
        lua.create_function(move |_, (category, text): (String, mlua::LuaString)| {
            lock(&shared).log.line(&category, &text.to_string_lossy());
            Ok(())
        })?,
    )?;
    host.set("now", lua.create_function(move |_, ()| Ok(epoch.elapsed().as_secs_f64()))?)?;
    let shared = Arc::clone(core);
    host.set(
        "alarm",
        lua.create_function(move |_, (seconds, function): (f64, Function)| {
            let mut core = lock(&shared);
            let number = core.number();
            let at = epoch + Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
            core.alarms.insert((at, number), function);
            core.look();
            Ok(())
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "terminate",
        lua.create_function(move |_, code: Option<i32>| -> mlua::Result<()> {
            let mut core = lock(&shared);
            core.fatal = Some(code.unwrap_or(0) & 255);
            core.look();
            Ok(())
        })?,
    )?;
    let shared = Arc::clone(core);
    host.set(
        "readdir",
        lua.create_function(move |lua, path: mlua::LuaString| {
            let shown = path.to_string_lossy();
            let found = read_directory(lua, path)?;
            if found.is_none() {
                lock(&shared).log.line("Error", &format!("cannot open dir [{shown}]."));
            }
            Ok(found)
        })?,
    )?;
    let shared = Arc::clone(core);
    let observe = move |_: &Lua, (fd, ready, writable): (i32, Option<Function>, Option<Function>)| {
        let mut core = lock(&shared);
        core.observed.insert(fd, (ready, writable));
        super::observe::observe(fd, &core);
        Ok(())
    };
    host.set("observe", lua.create_function(observe)?)?;
    let shared = Arc::clone(core);
    let unobserve = move |_: &Lua, fd: i32| {
        lock(&shared).observed.remove(&fd);
        Ok(())
    };
    host.set("unobserve", lua.create_function(unobserve)?)
}
