//! Reads typed values out of a TOML document and the environment, and goes on after an error, so that every
//! problem is told at once with its place. A serde derive would stop at the first one; so sections ask for
//! their keys here one by one, and what nobody asked for is an unknown key.
//!
//! Knows nothing of what the keys mean.

use super::origin::Written;
use super::problem::{ConfigProblem, Place, nearest};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Prefix of environment variables that override the file.
pub(super) const ENV_PREFIX: &str = "TIDEGATE__";

/// The variables that override the file, by lower case dotted key.
pub(super) struct Overrides(BTreeMap<String, Override>);

struct Override {
    name: String,
    value: String,
    used: Cell<bool>,
}

impl Overrides {
    pub(super) fn new(env: impl Iterator<Item = (String, String)>) -> Self {
        let entries = env.filter_map(|(name, value)| {
            let key = name.strip_prefix(ENV_PREFIX)?.to_lowercase().replace("__", ".");
            Some((key, Override { name, value, used: Cell::new(false) }))
        });
        Self(entries.collect())
    }
}

/// The sources, and what was found wrong so far.
pub(super) struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    overrides: &'a Overrides,
    pub(super) problems: Vec<ConfigProblem>,
    /// Every key that was asked for, with its default as TOML text (empty: none).
    pub(super) keys: Vec<super::KeyDefault>,
    /// Every key with what counts for it; tables of a list by their number.
    pub(super) written: BTreeMap<String, Written>,
    /// Lists of tables, which the environment cannot address.
    lists: Vec<String>,
}

/// One table of the document, or its absence: then every key has its override or its default.
pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: String,
    /// The same with the numbers of tables in lists.
    exact: String,
    table: Option<&'a DeTable<'a>>,
    /// Where the table begins, when it is written.
    place: Place,
    known: Vec<&'static str>,
    env: bool,
}

/// A value with its place.
pub(super) struct Found<'a> {
    value: DeValue<'a>,
    /// The variable's text, for which quotes are optional.
    raw: Option<&'a str>,
    pub(super) place: Place,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str, overrides: &'a Overrides) -> Self {
        Self {
            path,
            text,
            overrides,
            problems: Vec::new(),
            keys: Vec::new(),
            written: BTreeMap::new(),
            lists: Vec::new(),
        }
    }

    pub(super) fn root<'r>(&'r mut self, table: &'a DeTable<'a>) -> Section<'r, 'a> {
        let (path, place) = (String::new(), Place::Whole);
        let exact = String::new();
        Section { reader: self, path, exact, table: Some(table), place, known: Vec::new(), env: true }
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(span.start.min(self.text.len()))];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            path: self.path.to_path_buf(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    pub(super) fn problem(
        &mut self,
        place: Place,
        key: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.problems.push(ConfigProblem { place, key: key.to_owned(), message: message.into(), help });
    }

    /// Variables that no section asked for.
    pub(super) fn finish(&mut self) {
        let unused: Vec<(String, String)> = self
            .overrides
            .0
            .iter()
            .filter(|(_, entry)| !entry.used.get())
            .map(|(key, entry)| (key.clone(), entry.name.clone()))
            .collect();
        for (key, name) in unused {
            let list = self.lists.iter().find(|list| key.split('.').next() == Some(list.as_str()));
            let nearest = || {
                nearest(&key, self.keys.iter().map(|(known, _)| known.as_str())).map(|known| {
                    format!("did you mean {ENV_PREFIX}{}?", known.to_uppercase().replace('.', "__"))
                })
            };
            let help = list
                .map(|list| format!("write [[{list}]] into the file; the environment has only single keys"))
                .or_else(nearest);
            self.problem(Place::Env(name), &key, "unknown key", help);
        }
    }
}

impl<'a> Section<'_, 'a> {
    /// A nested table; absent is as good as empty.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_, 'a> {
        // Two functions may read parts of the same table.
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (path, exact) = (self.path_of(key), joined(&self.exact, key));
        let mut place = Place::Whole;
        let table = match self.table.and_then(|table| table.get(key)) {
            None => None,
            Some(value) => {
                let table = value.get_ref().as_table();
                place = self.reader.place(&value.span());
                if table.is_none() {
                    let place = place.clone();
                    let found = value.get_ref().type_str();
                    let help = Some(format!("write [{path}] on a line of its own, then its keys"));
                    self.reader.problem(place, &path, format!("expected a table, found {found}"), help);
                }
                table
            }
        };
        Section { reader: &mut *self.reader, path, exact, table, place, known: Vec::new(), env: self.env }
    }

    /// Notes a nested table that another function reads.
    pub(super) fn known_section(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Is the key written in the file, rightly or not?
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Is the key written, in the file or in the environment, rightly or not?
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.place_of(key) != Place::Whole
    }

    /// The tables of `[[key]]`, read one by one. The environment cannot address them.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_, 'a>) -> T,
    ) -> Vec<T> {
        self.known.push(key);
        let path = self.path_of(key);
        self.reader.lists.push(path.clone());
        let entries: Vec<&'a Spanned<DeValue<'a>>> = match self.table.and_then(|table| table.get(key)) {
            None => Vec::new(),
            Some(value) => match value.get_ref().as_array() {
                Some(array) => array.iter().collect(),
                None => vec![value],
            },
        };
        let mut out = Vec::with_capacity(entries.len());
        for (number, entry) in entries.into_iter().enumerate() {
            let Some(table) = entry.get_ref().as_table() else {
                let place = self.reader.place(&entry.span());
                let found = entry.get_ref().type_str();
                let help = Some(format!("write [[{path}]] on a line of its own, then its keys"));
                self.reader.problem(place, &path, format!("expected tables, found {found}"), help);
                continue;
            };
            let place = self.reader.place(&entry.span());
            let mut section = Section {
                reader: &mut *self.reader,
                path: path.clone(),
                exact: format!("{}[{number}]", joined(&self.exact, key)),
                table: Some(table),
                place,
                known: Vec::new(),
                env: false,
            };
            out.push(read(&mut section));
            section.finish();
        }
        out
    }

    /// The value of a key with its place; the environment goes before the file.
    pub(super) fn take(&mut self, key: &'static str, default: String) -> Option<Found<'a>> {
        self.known.push(key);
        let path = self.path_of(key);
        let mut found = None;
        if self.env
            && let Some(entry) = self.reader.overrides.0.get(&path)
        {
            entry.used.set(true);
            let parsed = DeValue::parse(&entry.value).map(Spanned::into_inner);
            found = Some(Found {
                value: parsed.unwrap_or_else(|_| DeValue::String(entry.value.as_str().into())),
                raw: Some(&entry.value),
                place: Place::Env(entry.name.clone()),
            });
        }
        if found.is_none()
            && let Some(value) = self.table.and_then(|table| table.get(key))
        {
            let place = self.reader.place(&value.span());
            found = Some(Found { value: value.get_ref().clone(), raw: None, place });
        }
        let written = found.as_ref().map_or_else(
            || Written::default(&default),
            |found| Written::set(key, &found.value, found.place.clone()),
        );
        self.reader.written.insert(joined(&self.exact, key), written);
        self.reader.keys.push((path, default));
        found
    }

    /// Where this table begins, for a key that is missing in it.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Where a key stands, for a problem that shows only when other keys are known.
    pub(super) fn place_of(&self, key: &str) -> Place {
        if let Some(entry) = self.reader.overrides.0.get(&self.path_of(key)).filter(|_| self.env) {
            return Place::Env(entry.name.clone());
        }
        match self.table.and_then(|table| table.get(key)) {
            Some(value) => self.reader.place(&value.span()),
            None => Place::Whole,
        }
    }

    /// A problem with the value of a key.
    pub(super) fn problem(
        &mut self,
        place: Place,
        key: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        let path = self.path_of(key);
        self.reader.problem(place, &path, message, help);
    }

    /// A whole number in `range`; `unit` (may be empty) is named when it is not.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> u64 {
        self.number_or(key, Some(default), range, unit).unwrap_or(default)
    }

    /// As [`Self::number`], without a default.
    pub(super) fn number_or(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let found = self.take(key, default.map_or_else(String::new, |value| value.to_string()))?;
        match number_of(&found.value, &range, unit) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(found.place, key, message, None);
                default
            }
        }
    }

    /// A whole number in `range`, or `None` for the word.
    pub(super) fn number_or_word(
        &mut self,
        key: &'static str,
        word: &str,
        default: u64,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let Some(found) = self.take(key, default.to_string()) else { return Some(default) };
        if found.value.as_str() == Some(word) {
            return None;
        }
        match number_of(&found.value, &range, unit) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(found.place, key, message, Some(format!("or \"{word}\"")));
                Some(default)
            }
        }
    }

    /// A list of whole numbers, none of them out of `range`, not empty.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        default: &[u64],
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Vec<u64> {
        let Some(found) = self.take(key, format!("{default:?}")) else { return default.to_vec() };
        let Some(array) = found.value.as_array() else {
            self.problem(found.place, key, "expected a list of whole numbers, such as [1000, 5000]", None);
            return default.to_vec();
        };
        if array.is_empty() {
            self.problem(found.place, key, "is empty; give at least one", None);
            return default.to_vec();
        }
        match array.iter().map(|value| number_of(value.get_ref(), &range, unit)).collect() {
            Ok(values) => values,
            Err(message) => {
                self.problem(found.place, key, message, None);
                default.to_vec()
            }
        }
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> T {
        let (default_word, default) = choices[0];
        let Some((text, place)) = self.text_or(key, Some(default_word)) else { return default };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let help =
            nearest(&text, choices.iter().map(|(word, _)| *word)).map(|w| format!("did you mean \"{w}\"?"));
        self.problem(place, key, format!("\"{text}\" is none of {}", words.join(", ")), help);
        default
    }

    /// Text with its place, when the key is written.
    pub(super) fn text_or(&mut self, key: &'static str, default: Option<&str>) -> Option<(String, Place)> {
        let found = self.take(key, default.map_or_else(String::new, |text| format!("\"{text}\"")))?;
        match (&found.value, found.raw) {
            (DeValue::String(text), _) => Some((text.to_string(), found.place)),
            (_, Some(raw)) => Some((raw.to_owned(), found.place)),
            (other, None) => {
                let message = format!("expected text in quotes, found {}", other.type_str());
                self.problem(found.place, key, message, None);
                None
            }
        }
    }

    /// Text that parses, such as an address. `what` finishes "expected …".
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        default: &str,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        if let Some((text, place)) = self.text_or(key, Some(default)) {
            match parse(&text) {
                Some(value) => return value,
                None => self.problem(place, key, format!("expected {what}, found \"{text}\""), None),
            }
        }
        parse(default).expect("a default parses")
    }

    /// A list of texts that parse.
    pub(super) fn parsed_list<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let fallback = || default.iter().filter_map(|text| parse(text)).collect();
        let Some(found) = self.take(key, format!("{default:?}")) else { return fallback() };
        let Some(array) = found.value.as_array() else {
            self.problem(found.place, key, format!("expected a list of {what}, such as {default:?}"), None);
            return fallback();
        };
        let mut values = Vec::with_capacity(array.len());
        for entry in array {
            if let Some(value) = entry.get_ref().as_str().and_then(&parse) {
                values.push(value);
            } else {
                let message = format!("{} is no {what}", render(entry.get_ref()));
                self.problem(found.place.clone(), key, message, None);
            }
        }
        values
    }

    /// A list of texts with its place, when the key is written; it has no default. What is no text is told and left
    /// out.
    pub(super) fn texts_or(&mut self, key: &'static str) -> Option<(Vec<String>, Place)> {
        let found = self.take(key, String::new())?;
        let Some(array) = found.value.as_array() else {
            let message = format!("expected a list of texts in quotes, found {}", found.value.type_str());
            self.problem(found.place, key, message, None);
            return None;
        };
        let texts = array.iter().filter_map(|entry| {
            let text = entry.get_ref().as_str();
            if text.is_none() {
                let message = format!("expected text in quotes, found {}", entry.get_ref().type_str());
                self.problem(found.place.clone(), key, message, None);
            }
            text.map(str::to_owned)
        });
        Some((texts.collect(), found.place.clone()))
    }

    /// One text, or a list of them, with its place, when the key is written; it has no default.
    pub(super) fn text_or_texts(&mut self, key: &'static str) -> Option<(Vec<String>, Place)> {
        let is_list =
            self.table.and_then(|table| table.get(key)).is_some_and(|value| value.get_ref().is_array());
        if is_list {
            self.texts_or(key)
        } else {
            self.text_or(key, None).map(|(text, place)| (vec![text], place))
        }
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(found) = self.take(key, default.to_string()) else { return default };
        found.value.as_bool().unwrap_or_else(|| {
            let message = format!("expected true or false, found {}", found.value.type_str());
            self.problem(found.place, key, message, None);
            default
        })
    }

    /// Tells of every key that was not asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let place = self.reader.place(&key.span());
            let path = if self.path.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{}.{}", self.path, key.get_ref())
            };
            let help = nearest(key.get_ref(), self.known.iter().copied())
                .map(|known| format!("did you mean \"{known}\"?"))
                .or_else(|| Some(format!("known here: {}", self.known.join(", "))));
            self.reader.problem(place, &path, "unknown key", help);
        }
    }

    fn path_of(&self, key: &str) -> String {
        joined(&self.path, key)
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn number_of(value: &DeValue<'_>, range: &RangeInclusive<u64>, unit: &str) -> Result<u64, String> {
    let Some(integer) = value.as_integer() else {
        let of = if unit.is_empty() { String::new() } else { format!(" of {unit}") };
        return Err(format!("expected a whole number{of}, found {}", value.type_str()));
    };
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("{integer} is out of range, {} to {}{unit}", range.start(), range.end())),
    }
}

fn render(value: &DeValue<'_>) -> String {
    value.as_str().map_or_else(|| value.type_str().to_owned(), |text| format!("\"{text}\""))
}
