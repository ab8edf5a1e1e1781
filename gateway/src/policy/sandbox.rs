//! What a policy can reach. Nothing that loads, opens, waits, or survives a request; and nothing that could catch an
//! error, so that no policy can go on after a limit has stopped it: no `pcall`, no coroutines, no metatables.
//!
//! A library function runs to its end however long it takes, since the VM counts only its own instructions. So every
//! text function here is linear and takes at most [`TEXT_BYTES_MAX`]: Lua's patterns, which backtrack, and `string.rep`
//! and `string.format`, which make large texts from small ones, are not there.

use mlua::{Error, Lua, LuaString, Result, Table, Value};

/// Bytes of a text that a library function takes.
pub(super) const TEXT_BYTES_MAX: usize = 4_096;

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

fn text(lua: &Lua) -> Result<Table> {
    let text = lua.create_table()?;
    let test = |does: fn(&str, &str) -> bool| {
        lua.create_function(move |_, (text, part): (LuaString, LuaString)| {
            let (text, part) = (bounded(&text)?, bounded(&part)?);
            Ok(does(&text, &part))
        })
    };
    text.raw_set("contains", test(|text, part| text.contains(part))?)?;
    text.raw_set("starts_with", test(|text, part| text.starts_with(part))?)?;
    text.raw_set("ends_with", test(|text, part| text.ends_with(part))?)?;
    let change = |does: fn(&str) -> String| {
        lua.create_function(move |lua, text: LuaString| lua.create_string(does(&bounded(&text)?)))
    };
    text.raw_set("lower", change(str::to_ascii_lowercase)?)?;
    text.raw_set("upper", change(str::to_ascii_uppercase)?)?;
    text.raw_set("trim", change(|text| text.trim().to_owned())?)?;
    let sub = lua.create_function(|lua, (text, from, to): (LuaString, i64, Option<i64>)| {
        let text = bounded(&text)?;
        let length = text.len() as i64;
        let place = |at: i64| if at < 0 { length + at + 1 } else { at };
        let (from, to) = (place(from).max(1), place(to.unwrap_or(-1)).min(length));
        let bytes = if from > to { &[][..] } else { &text.as_bytes()[from as usize - 1..to as usize] };
        lua.create_string(bytes)
    })?;
    text.raw_set("sub", sub)?;
    Ok(text)
}

/// The text of an argument, if it is short enough.
fn bounded(text: &LuaString) -> Result<String> {
    let bytes = text.as_bytes();
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Error::runtime(format!("a text has {} bytes; at most {TEXT_BYTES_MAX}", bytes.len())));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
