//! Of Lua's library `debug` what tells where a program is.
//!
//! **Not here:** what reads or changes variables of a running program: Lua's own library can do that to the functions that
//! keep a configuration within its bounds.

use mlua::{Lua, Table, Value};

/// Adds `traceback` and `running` to the functions of the program.
pub(super) fn serve(lua: &Lua, host: &Table) -> mlua::Result<()> {
    let traceback = |lua: &Lua, (message, level): (Value, Option<usize>)| {
        let text = match &message {
            Value::Nil => None,
            Value::String(text) => Some(text.to_string_lossy()),
            _ => return Ok(message),
        };
        lua.traceback(text.as_deref(), level.unwrap_or(1)).map(Value::String)
    };
    host.set("traceback", lua.create_function(traceback)?)?;
    host.set("running", lua.create_function(|lua, level: Value| running(lua, &level))?)
}

/// Returns what `debug.getinfo(LEVEL)` says of source, line and name; nil for a level that is not there and for a function,
/// which cannot be looked into.
fn running(lua: &Lua, level: &Value) -> mlua::Result<Option<Table>> {
    let Some(level) = level.as_usize() else { return Ok(None) };
    let found = lua.inspect_stack(level, |frame| {
        let (source, names) = (frame.source(), frame.names());
        let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(std::borrow::Cow::into_owned);
        (
            text(source.source),
            text(source.short_src),
            source.line_defined,
            frame.current_line(),
            text(names.name),
        )
    });
    let Some((source, short, defined, line, name)) = found else { return Ok(None) };
    let info = lua.create_table()?;
    info.set("source", source)?;
    info.set("short_src", short)?;
    info.set("linedefined", defined)?;
    info.set("currentline", line.map_or(-1, |line| i64::try_from(line).unwrap_or(-1)))?;
    info.set("name", name)?;
    Ok(Some(info))
}
