//! A reader over a parsed TOML document that notes every problem and goes on, where serde would stop at the
//! first.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Finding;
use super::schema::help_for_unknown;
use super::units::{parse_duration, parse_percent, parse_size};
use crate::path::printable;

/// A table of the document, read key by key.
pub(super) struct Table<'d> {
    table: &'d DeTable<'d>,
    at: Range<usize>,
    known: &'static [&'static str],
    /// What stands before a key in messages: `settle.` for the keys of `settle`.
    prefix: &'static str,
}

impl<'d> Table<'d> {
    /// Begins to read `table`; notes every key that is not in `known`.
    pub(super) fn new(
        table: &'d DeTable<'d>,
        at: Range<usize>,
        known: &'static [&'static str],
        prefix: &'static str,
        findings: &mut Vec<Finding>,
    ) -> Self {
        for (key, _) in table.iter() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                findings.push(
                    Finding::new(key.span(), format!("unknown key `{prefix}{}`", printable(&**name)))
                        .help(help_for_unknown(name, known)),
                );
            }
        }
        Self { table, at, known, prefix }
    }

    /// The table's header, or the key that holds the table.
    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Whether anything stands under `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that `key` is missing, unless something stands there.
    pub(super) fn require(&self, key: &str, help: &str, findings: &mut Vec<Finding>) {
        if !self.has(key) {
            let message = format!("`{}{key}` is missing", self.prefix);
            findings.push(Finding::new(self.at(), message).help(help).of_absence());
        }
    }

    /// Every key and value, for a table whose keys are the user's own.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Spanned<String>, &'d Spanned<DeValue<'d>>)> {
        self.table.iter().map(|(key, value)| (Spanned::new(key.span(), key.get_ref().to_string()), value))
    }

    fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        debug_assert!(self.known.contains(&key), "{key} is missing from the schema");
        self.table.get(key)
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        findings: &mut Vec<Finding>,
        read: impl FnOnce(&'d DeValue<'d>) -> Result<T, Option<String>>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(Spanned::new(value.span(), read)),
            Err(help) => {
                let message =
                    format!("`{}{key}` must be {wanted}, not {}", self.prefix, kind(value.get_ref()));
                let finding = Finding::new(value.span(), message);
                findings.push(match help {
                    Some(help) => finding.help(help),
                    None => finding,
                });
                None
            }
        }
    }

    pub(super) fn string(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<String>> {
        self.typed(key, "a string", findings, |value| match value {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                Err(Some("text stands in quotes".to_owned()))
            }
            DeValue::Array(_) | DeValue::Table(_) => Err(None),
        })
    }

    pub(super) fn boolean(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<bool>> {
        self.typed(key, "true or false", findings, |value| match value {
            DeValue::Boolean(on) => Ok(*on),
            DeValue::String(_) => Err(Some("write it without quotes".to_owned())),
            _ => Err(None),
        })
    }

    /// A whole number; one that does not fit is noted as such.
    pub(super) fn integer(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<u64>> {
        self.typed(key, "a whole number above 0", findings, |value| match value {
            DeValue::Integer(_) => unsigned(value).ok_or(None),
            DeValue::String(_) => Err(Some("write it without quotes".to_owned())),
            _ => Err(None),
        })
    }

    pub(super) fn duration(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<Duration>> {
        let wanted = "a duration such as \"2s\" or \"1h30m\"";
        self.typed(key, wanted, findings, |value| match value {
            DeValue::String(text) => parse_duration(text).ok_or_else(|| {
                Some("the units are ms, s, m, h and d, each after its number, in quotes".to_owned())
            }),
            DeValue::Integer(_) => {
                let shown = unsigned(value).map_or("2".to_owned(), |number| number.to_string());
                Err(Some(format!("a number alone has no unit; write \"{shown}s\" if seconds are meant")))
            }
            _ => Err(None),
        })
    }

    /// A size: a string with a unit, or an integer in bytes.
    pub(super) fn size(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<u64>> {
        self.typed(key, "a size such as \"64MiB\"", findings, |value| match value {
            DeValue::String(text) => parse_size(text).ok_or_else(|| {
                Some(
                    "the units are KiB, MiB, GiB, TiB and KB, MB, GB, TB, after the number, in quotes"
                        .to_owned(),
                )
            }),
            DeValue::Integer(_) => unsigned(value).ok_or(None),
            _ => Err(None),
        })
    }

    /// A share of a whole, in percent.
    pub(super) fn percent(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<u64>> {
        self.typed(key, "a share such as \"50%\"", findings, |value| match value {
            DeValue::String(text) => parse_percent(text)
                .ok_or_else(|| Some("write a whole number and a percent sign, in quotes".to_owned())),
            DeValue::Integer(_) => {
                let shown = unsigned(value).map_or("50".to_owned(), |number| number.to_string());
                Err(Some(format!("write \"{shown}%\" if percent are meant")))
            }
            _ => Err(None),
        })
    }

    pub(super) fn strings(
        &self,
        key: &str,
        findings: &mut Vec<Finding>,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        let list = self.typed(key, "a list of strings", findings, |value| match value {
            DeValue::Array(list) => Ok(list),
            DeValue::String(_) => Err(Some("put it in brackets: [\"…\"]".to_owned())),
            _ => Err(None),
        })?;
        let at = list.span();
        let mut strings = Vec::new();
        for item in list.into_inner() {
            match item.get_ref() {
                DeValue::String(text) => strings.push(Spanned::new(item.span(), text.to_string())),
                other => findings.push(Finding::new(
                    item.span(),
                    format!("`{}{key}` holds strings, not {}", self.prefix, kind(other)),
                )),
            }
        }
        Some(Spanned::new(at, strings))
    }

    /// The table under `key`, which knows the keys `known`.
    pub(super) fn table(
        &self,
        key: &str,
        known: &'static [&'static str],
        prefix: &'static str,
        findings: &mut Vec<Finding>,
    ) -> Option<Table<'d>> {
        let table = self.raw_table(key, findings)?;
        Some(Self::new(table.get_ref(), table.span(), known, prefix, findings))
    }

    /// The table under `key`, whose keys are the user's own.
    pub(super) fn named_tables(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Table<'d>> {
        let table = self.raw_table(key, findings)?;
        Some(Self { table: table.get_ref(), at: table.span(), known: &[], prefix: "" })
    }

    fn raw_table(&self, key: &str, findings: &mut Vec<Finding>) -> Option<Spanned<&'d DeTable<'d>>> {
        self.typed(key, "a table", findings, |value| match value {
            DeValue::Table(table) => Ok(table),
            DeValue::Array(list) if list.iter().all(|item| item.get_ref().is_table()) => {
                Err(Some(format!("there can be only one; write [{key}] once, with single brackets")))
            }
            _ => Err(None),
        })
    }

    /// The tables of the list under `key`.
    pub(super) fn tables(&self, key: &str, findings: &mut Vec<Finding>) -> Vec<Spanned<&'d DeTable<'d>>> {
        let list = self.typed(key, "a list of tables", findings, |value| match value {
            DeValue::Array(list) => Ok(list),
            DeValue::Table(_) => Err(Some(format!("write [[{key}]] with double brackets"))),
            _ => Err(Some(format!("write [[{key}]] on a line of its own and its keys below"))),
        });
        let mut tables = Vec::new();
        for item in list.into_iter().flat_map(Spanned::into_inner) {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Spanned::new(item.span(), table)),
                other => findings
                    .push(Finding::new(item.span(), format!("`{key}` holds tables, not {}", kind(other)))),
            }
        }
        tables
    }
}

/// What a value is, as a person would say. It never tells the value itself, which might be a secret.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(text) if text.is_empty() => "an empty string",
        DeValue::String(_) => "this string",
        DeValue::Integer(_) if unsigned(value).is_none() => "this integer",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn unsigned(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
