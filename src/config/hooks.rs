//! Functions of a configuration that are called while the daemon runs.
//!
//! **Purpose:** keeps the Lua state of a configuration that sets hooks, and calls them. **Invariants:** a
//! call that runs in Lua for longer than its limit is ended; a command of [`Hooks::call`]'s is killed
//! after the same limit. **Not here:** when they are called, and on which thread (`hooks`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mlua::{Function, HookTriggers, Lua, Table, Value, VmState};

use super::program::Program;

/// The hooks that there are.
pub const HOOKS: [&str; 5] = ["onState", "onRole", "onBatch", "onProblem", "onHeld"];

/// Instructions between two looks at the clock.
const STEP: u32 = 10_000;

/// What a hook is given behind the names of sync and target.
#[derive(Debug, Clone, PartialEq)]
pub enum HookValue {
    /// A text of any bytes.
    Text(Vec<u8>),
    /// A table.
    Table(Vec<(&'static str, HookField)>),
}

/// A field of such a table.
#[derive(Debug, Clone, PartialEq)]
pub enum HookField {
    /// A text of any bytes.
    Text(Vec<u8>),
    /// A number.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
}

/// The hooks of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    lua: Option<Lua>,
    functions: BTreeMap<&'static str, Function>,
}

impl PartialEq for Hooks {
    fn eq(&self, other: &Self) -> bool {
        self.functions.keys().eq(other.functions.keys())
    }
}

impl Hooks {
    /// Keeps the state that the functions live in.
    pub(super) fn new(lua: Lua, functions: BTreeMap<&'static str, Function>) -> Self {
        // The bounds of loading are over; a call has its own.
        lua.remove_global_hook();
        Self { lua: (!functions.is_empty()).then_some(lua), functions }
    }

    /// Whether nothing is to be called.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Returns the names of those that are set.
    pub fn names(&self) -> Vec<&'static str> {
        self.functions.keys().copied().collect()
    }

    /// Calls a hook; in it, `speil.command(words, input)` runs a command. To be called by one thread at
    /// a time.
    ///
    /// # Errors
    /// What the hook raised, or that it ran for too long; one line.
    pub fn call(&self, name: &str, values: &[HookValue], limit: Duration) -> Result<(), String> {
        let (Some(lua), Some(function)) = (&self.lua, self.functions.get(name)) else { return Ok(()) };
        let call = || -> mlua::Result<()> {
            let until = Instant::now() + limit;
            offer_command(lua, until)?;
            lua.set_global_hook(HookTriggers::new().every_nth_instruction(STEP), move |_, _| {
                if Instant::now() < until {
                    return Ok(VmState::Continue);
                }
                Err(mlua::Error::runtime("it ran for too long and was ended"))
            })?;
            let arguments: mlua::Result<Vec<Value>> = values.iter().map(|value| given(lua, value)).collect();
            let done = function.call::<()>(mlua::MultiValue::from_vec(arguments?));
            lua.remove_global_hook();
            done
        };
        call().map_err(|error| {
            let text = error.to_string();
            text.split("\nstack traceback:").next().unwrap_or_default().replace('\n', " ")
        })
    }
}

fn given(lua: &Lua, value: &HookValue) -> mlua::Result<Value> {
    match value {
        HookValue::Text(text) => Ok(Value::String(lua.create_string(text)?)),
        HookValue::Table(fields) => {
            let table = lua.create_table()?;
            for (key, field) in fields {
                match field {
                    HookField::Text(text) => table.raw_set(*key, lua.create_string(text)?)?,
                    HookField::Number(number) => table.raw_set(*key, *number)?,
                    HookField::Flag(flag) => table.raw_set(*key, *flag)?,
                }
            }
            Ok(Value::Table(table))
        }
    }
}

/// Sets `speil.command`: runs words without a shell, with a text as standard input; returns the exit
/// code, or nil and why there is none.
fn offer_command(lua: &Lua, until: Instant) -> mlua::Result<()> {
    let command = lua.create_function(move |lua, (words, input): (Table, Option<mlua::LuaString>)| {
        let words: Vec<String> = words.sequence_values::<String>().collect::<mlua::Result<_>>()?;
        let input = input.map(|input| input.as_bytes().to_vec()).unwrap_or_default();
        match (Program { words: &words, variables: &[], input: &input }).run(until, None) {
            Ok(code) => Ok((Value::Integer(i64::from(code)), Value::Nil)),
            Err(error) => Ok((Value::Nil, Value::String(lua.create_string(error)?))),
        }
    })?;
    let table = lua.create_table()?;
    table.raw_set("command", command)?;
    lua.globals().raw_set("speil", table)
}
