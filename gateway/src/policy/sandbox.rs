//! What a policy can reach. Nothing that loads, opens, waits, or survives a request; and nothing that could catch an
//! error, so that no policy can go on after a limit has stopped it: no `pcall`, no coroutines, no metatables.
//!
//! A library function runs to its end however long it takes, since the VM counts only its own instructions. So every
//! text function here (`text.lua`) is quick for what it takes, at most [`TEXT_BYTES_MAX`]: Lua's patterns, which backtrack, and `string.rep`
//! and `string.format`, which make large texts from small ones, are not there.

use mlua::chunk::ChunkMode;
use mlua::{Error, Lua, LuaString, Result, Table, Value};

/// Bytes of a text that a library function takes.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;

const BASE: [&str; 9] =
    ["assert", "error", "ipairs", "next", "pairs", "select", "tonumber", "tostring", "type"];
const MATH: [&str; 10] =
    ["abs", "ceil", "floor", "fmod", "huge", "max", "maxinteger", "min", "mininteger", "tointeger"];

/// The environment of all policies of this VM: read only, and so are the tables in it.
pub(super) fn environment(lua: &Lua, request: &Table) -> Result<Table> {
    let globals = lua.globals();
    let known = lua.create_table()?;
    for name in BASE {
        known.raw_set(name, globals.raw_get::<Value>(name)?)?;
    }
    let math = lua.create_table()?;
    let all_math: Table = globals.raw_get("math")?;
    for name in MATH {
        math.raw_set(name, all_math.raw_get::<Value>(name)?)?;
    }
    let text = text(lua)?;
    known.raw_set("math", read_only(lua, &math)?)?;
    known.raw_set("string", read_only(lua, &text)?)?;
    known.raw_set("request", read_only(lua, request)?)?;
    // `("x"):lower()` finds the same functions.
    let methods = lua.create_table()?;
    methods.raw_set("__index", &text)?;
    methods.raw_set("__metatable", false)?;
    lua.set_type_metatable::<LuaString>(Some(methods));
    read_only(lua, &known)
}

/// An empty table that shows another one and takes no assignment.
pub(super) fn read_only(lua: &Lua, shown: &Table) -> Result<Table> {
    let refuse = lua.create_function(|_, (_, key): (Value, Value)| -> Result<()> {
        let name = key.to_string().unwrap_or_default();
        Err(Error::runtime(format!("\"{name}\" cannot be set: write `local {name}`, nothing else is kept")))
    })?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", shown)?;
    meta.raw_set("__newindex", refuse)?;
    meta.raw_set("__metatable", false)?;
    let table = lua.create_table()?;
    table.set_metatable(Some(meta))?;
    Ok(table)
}

/// The text functions that policies get: the library's own behind a check, in Lua, where a call costs a fraction of one
/// into Rust; and what the library has only as a pattern.
fn text(lua: &Lua) -> Result<Table> {
    let trim = lua.create_function(|lua, text: LuaString| {
        let bytes = text.as_bytes();
        lua.create_string(bytes.trim_ascii())
    })?;
    let library: Table = lua.globals().raw_get("string")?;
    let prelude = lua.load(include_str!("text.lua")).set_name("@text").set_mode(ChunkMode::Text);
    prelude.call((library, trim, TEXT_BYTES_MAX))
}
