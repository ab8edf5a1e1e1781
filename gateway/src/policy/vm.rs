//! One Lua VM with the policies of a gateway.

use super::sandbox::{self, read_only};
use super::{Limits, Sources};
use http::{HeaderMap, HeaderName};
use mlua::chunk::ChunkMode;
use mlua::state::{GcIncParams, GcMode};
use mlua::{Error, Function, HookTriggers, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};
use serde_json::Value as Json;
use std::cell::Cell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Instructions between two looks at the budget.
const SLICE: u32 = 100;
/// Bytes of a header's value; the rest is cut.
const HEADER_BYTES_MAX: usize = 512;
/// Attributes that one policy sets.
const ATTRIBUTES_MAX: usize = 16;
/// Bytes of an attribute's name, and of its text.
const ATTRIBUTE_BYTES_MAX: usize = 256;
/// Characters of the reason of a denial, and of an error's message.
const REASON_CHARS_MAX: usize = 200;

/// What policies are told of a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Sale.
    pub sale: &'a str,
    /// Proven buyer.
    pub buyer: &'a str,
    /// Address of the client, behind trusted proxies too.
    pub address: IpAddr,
    /// Units asked for.
    pub quantity: u32,
    /// A good purchase pass came with it.
    pub has_pass: bool,
    /// Orders of this buyer in the last 10 s, this one included.
    pub recent_by_buyer: u32,
    /// Orders from this address (IPv6: its /64) in the last 10 s, this one included.
    pub recent_by_address: u32,
    /// Unix ms.
    pub now_ms: u64,
    /// As they came; only those of the configuration are told.
    pub headers: &'a HeaderMap,
}

/// What the policies say.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The order goes on, with these attributes added.
    Allow(Vec<(String, Json)>),
    /// It does not; why, for the buyer.
    Deny(String),
    /// Only with a purchase pass.
    Challenge,
}

/// A policy did not come to a verdict, or cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{script}: {message}")]
pub struct PolicyError {
    /// Name of the file.
    pub script: String,
    /// One line.
    pub message: String,
}

/// A VM with its policies loaded. Not for other threads than its own.
pub struct Vm {
    scripts: Vec<(String, Function)>,
    /// What `request` shows.
    request: Table,
    headers: Table,
    names: Names,
    told: Told,
    header_names: Vec<(HeaderName, LuaString)>,
    /// Slices left to the file that runs.
    budget: Rc<Cell<u32>>,
    /// When the file that runs must have ended; told at its first look at the budget.
    deadline: Rc<Cell<Option<Instant>>>,
    limits: Limits,
    scratch: String,
    version: u64,
    lua: Lua,
}

/// What `request` shows of the order before; what is the same is not set again.
#[derive(Default)]
struct Told {
    sale: Option<String>,
    has_pass: Option<bool>,
    quantity: Option<u32>,
    recent_by_buyer: Option<u32>,
    recent_by_address: Option<u32>,
}

/// Keys of `request`, made once.
struct Names {
    sale: LuaString,
    buyer: LuaString,
    address: LuaString,
    quantity: LuaString,
    has_pass: LuaString,
    recent_by_buyer: LuaString,
    recent_by_address: LuaString,
    now_ms: LuaString,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Vm {
    /// A VM with these files, in their order. An error names the first that does not compile; nothing was run.
    pub fn load(sources: &Sources, headers: &[HeaderName], limits: Limits) -> Result<Self, PolicyError> {
        let mut vm = Self::empty(headers, limits).map_err(|error| wrong("the Lua VM", &error))?;
        vm.version = sources.version;
        let environment =
            sandbox::environment(&vm.lua, &vm.request).map_err(|error| wrong("the Lua VM", &error))?;
        for script in &sources.scripts {
            let chunk = vm.lua.load(script.text.as_str()).set_name(format!("@{}", script.name));
            // Text only: hand-made bytecode can break the VM.
            let function = chunk.set_mode(ChunkMode::Text).set_environment(environment.clone());
            let function = function.into_function().map_err(|error| wrong(&script.name, &error))?;
            vm.scripts.push((script.name.clone(), function));
        }
        let bytes_max = vm.lua.used_memory() + limits.memory_bytes_max;
        vm.lua.set_memory_limit(bytes_max).map_err(|error| wrong("the Lua VM", &error))?;
        Ok(vm)
    }

    fn empty(headers: &[HeaderName], limits: Limits) -> mlua::Result<Self> {
        let lua = Lua::new_with(StdLib::MATH | StdLib::STRING, LuaOptions::new())?;
        // A request leaves a few hundred bytes: collected when ten times the VM's own have gathered, not at every turn.
        lua.gc_set_mode(GcMode::Incremental(GcIncParams::default().pause(1_000)));
        let budget = Rc::new(Cell::new(0));
        let deadline = Rc::new(Cell::new(None));
        let (left, end) = (budget.clone(), deadline.clone());
        let time_max = Duration::from_millis(limits.time_ms_max);
        let triggers = HookTriggers::new().every_nth_instruction(SLICE);
        lua.set_hook(triggers, move |_, _| match left.get() {
            0 => Err(Error::runtime("it ran for too many instructions")),
            slices => {
                left.set(slices - 1);
                let now = Instant::now();
                match end.get() {
                    None => end.set(Some(now + time_max)),
                    Some(end) if now > end => return Err(Error::runtime("it ran for too long")),
                    Some(_) => {}
                }
                Ok(VmState::Continue)
            }
        })?;
        let name = |name: &str| lua.create_string(name);
        let names = Names {
            sale: name("sale")?,
            buyer: name("buyer")?,
            address: name("address")?,
            quantity: name("quantity")?,
            has_pass: name("has_pass")?,
            recent_by_buyer: name("recent_by_buyer")?,
            recent_by_address: name("recent_by_address")?,
            now_ms: name("now_ms")?,
        };
        let header_names = headers
            .iter()
            .map(|header| Ok((header.clone(), name(header.as_str())?)))
            .collect::<mlua::Result<_>>()?;
        let (request, header_table) = (lua.create_table()?, lua.create_table()?);
        request.raw_set("headers", read_only(&lua, &header_table)?)?;
        Ok(Self {
            scripts: Vec::new(),
            request,
            headers: header_table,
            names,
            told: Told::default(),
            header_names,
            budget,
            deadline,
            limits,
            scratch: String::new(),
            version: 0,
            lua,
        })
    }

    /// Of the sources that it was loaded from.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Runs the files one after the other until one does not allow. Bounded by the limits for each of them; after an
    /// error the VM is as good as new.
    pub fn evaluate(&mut self, facts: &Facts<'_>) -> Result<Verdict, PolicyError> {
        self.tell(facts).map_err(|error| self.failed("the request", &error))?;
        let mut attributes = Vec::new();
        for (name, script) in &self.scripts {
            self.budget.set(self.limits.instructions_max.div_ceil(SLICE));
            self.deadline.set(None);
            let said = script.call::<(Value, Value)>(()).map_err(|error| self.failed(name, &error))?;
            match read(&said, &mut attributes) {
                Ok(None) => {}
                Ok(Some(verdict)) => return Ok(verdict),
                Err(message) => return Err(PolicyError { script: name.clone(), message }),
            }
        }
        Ok(Verdict::Allow(attributes))
    }

    fn tell(&mut self, facts: &Facts<'_>) -> mlua::Result<()> {
        let (request, names) = (&self.request, &self.names);
        self.scratch.clear();
        // Writing to a `String` does not fail.
        let _ = write!(self.scratch, "{}", facts.address.to_canonical());
        if self.told.sale.as_deref() != Some(facts.sale) {
            request.raw_set(&names.sale, facts.sale)?;
            self.told.sale = Some(facts.sale.to_owned());
        }
        request.raw_set(&names.buyer, facts.buyer)?;
        request.raw_set(&names.address, self.scratch.as_str())?;
        if self.told.has_pass != Some(facts.has_pass) {
            request.raw_set(&names.has_pass, facts.has_pass)?;
            self.told.has_pass = Some(facts.has_pass);
        }
        let numbers = [
            (&names.quantity, facts.quantity, &mut self.told.quantity),
            (&names.recent_by_buyer, facts.recent_by_buyer, &mut self.told.recent_by_buyer),
            (&names.recent_by_address, facts.recent_by_address, &mut self.told.recent_by_address),
        ];
        for (name, number, told) in numbers {
            if *told != Some(number) {
                request.raw_set(name, number)?;
                *told = Some(number);
            }
        }
        request.raw_set(&names.now_ms, facts.now_ms as i64)?;
        for (header, name) in &self.header_names {
            match facts.headers.get(header) {
                Some(value) => {
                    let bytes = value.as_bytes();
                    let value = self.lua.create_string(&bytes[..bytes.len().min(HEADER_BYTES_MAX)])?;
                    self.headers.raw_set(name, value)?;
                }
                None => self.headers.raw_set(name, Value::Nil)?,
            }
        }
        Ok(())
    }

    /// What is left of a failed run is garbage: the next request must not pay for it with its memory.
    fn failed(&self, script: &str, error: &Error) -> PolicyError {
        let wrong = wrong(script, error);
        let _ = self.lua.gc_collect();
        wrong
    }
}

/// What a file returned. `None`: it allows, and the next one is asked.
fn read(
    (word, more): &(Value, Value),
    attributes: &mut Vec<(String, Json)>,
) -> Result<Option<Verdict>, String> {
    let word = match word {
        Value::Nil => return Ok(None),
        Value::String(word) => word.as_bytes(),
        other => return Err(format!("it returned a {}; {ANSWERS}", other.type_name())),
    };
    match (&*word, more) {
        (b"allow", Value::Nil) => Ok(None),
        (b"allow", Value::Table(table)) => {
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair.map_err(|error| error.to_string())?;
                if attributes.len() == ATTRIBUTES_MAX {
                    return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
                }
                attributes.push(attribute(&key, &value)?);
            }
            Ok(None)
        }
        (b"challenge", Value::Nil) => Ok(Some(Verdict::Challenge)),
        (b"deny", Value::Nil) => Ok(Some(Verdict::Deny(String::new()))),
        (b"deny", Value::String(reason)) => {
            Ok(Some(Verdict::Deny(reason.to_string_lossy().chars().take(REASON_CHARS_MAX).collect())))
        }
        _ => Err(format!("it returned something else; {ANSWERS}")),
    }
}

const ANSWERS: &str =
    "return nothing, \"allow\", \"allow\" and a table, \"deny\" and a reason, or \"challenge\"";

fn attribute(key: &Value, value: &Value) -> Result<(String, Json), String> {
    let text = |text: &LuaString| {
        let fits = text.as_bytes().len() <= ATTRIBUTE_BYTES_MAX;
        fits.then(|| text.to_string_lossy()).ok_or(format!("an attribute above {ATTRIBUTE_BYTES_MAX} bytes"))
    };
    let Value::String(key) = key else { return Err("an attribute's name is no text".to_owned()) };
    let value = match value {
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Number(value) if value.is_finite() => Json::from(*value),
        Value::String(value) => Json::String(text(value)?),
        _ => return Err("an attribute is neither text, number nor boolean".to_owned()),
    };
    Ok((text(key)?, value))
}

/// The error in one line, without the stack.
fn wrong(script: &str, error: &Error) -> PolicyError {
    let message = match error {
        Error::CallbackError { cause, .. } => cause.to_string(),
        Error::MemoryError(_) => "it took too much memory".to_owned(),
        other => other.to_string(),
    };
    let line = message.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("runtime error: ").trim_start_matches("syntax error: ");
    PolicyError { script: script.to_owned(), message: line.chars().take(REASON_CHARS_MAX).collect() }
}
