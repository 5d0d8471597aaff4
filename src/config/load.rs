use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::problem::Finding;
use super::raw::Raw;
use super::validate::validate;
use super::{Config, Env, Problems, SmallFileError, read_small};
use crate::path::printable;

/// The largest config file that is read: far above any real one, and small enough to hold in memory.
const MAX_BYTES: u64 = 4 << 20;

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the config file {}: {why}", printable(file))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The reason.
        why: io::Error,
    },
    /// What it names is a directory, a device or a pipe, or is too large to be a config.
    #[error("the config file {} {why}", printable(file))]
    NotAConfig {
        /// The file.
        file: PathBuf,
        /// The reason, fit to follow the file's name.
        why: &'static str,
    },
    /// The file was read and has problems.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// The bytes of the config in `file`, unchecked.
///
/// # Errors
/// The file cannot be read, or is none that could be a config.
pub fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    let file = file.to_owned();
    match read_small(&file, MAX_BYTES) {
        Ok((bytes, _)) => Ok(bytes),
        Err(SmallFileError::Io(why)) => Err(LoadError::Unreadable { file, why }),
        Err(SmallFileError::NotAFile) => Err(LoadError::NotAConfig { file, why: "is not a regular file" }),
        Err(SmallFileError::TooLarge(_)) => Err(LoadError::NotAConfig { file, why: "is larger than 4 MiB" }),
    }
}

/// Reads and checks the config in `file`.
///
/// # Errors
/// The file cannot be read, or what is in it has problems.
pub fn load(file: &Path, env: &Env) -> Result<Config, LoadError> {
    let file =
        std::path::absolute(file).map_err(|why| LoadError::Unreadable { file: file.to_owned(), why })?;
    let bytes = read(&file)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(parse(text, &file, env)?),
        Err(fault) => {
            let at = fault.valid_up_to();
            let finding = Finding::new(at..at + 1, "the file is not UTF-8 from here on")
                .help("save it as UTF-8; TOML knows no other encoding");
            Err(Problems::new(&file, &String::from_utf8_lossy(&bytes), vec![finding]).into())
        }
    }
}

/// Reads the config in `text`; `file`, absolute, is where the text comes from.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &Path, env: &Env) -> Result<Config, Problems> {
    let mut findings = Vec::new();
    let (document, faults) = DeTable::parse_recoverable(text);
    let raw = Raw::read(document.get_ref(), &mut findings);
    let config = validate(&raw, file, env, &mut findings);
    if !faults.is_empty() {
        findings = with_syntax(text, &faults, &findings);
    }
    match config {
        Some(config) if findings.is_empty() => Ok(config),
        // `validate` returns nothing only where it has noted why.
        _ => Err(Problems::new(file, text, findings)),
    }
}

/// What TOML itself objects to, and of the other findings those that do not follow from it: after a line that
/// cannot be read, keys may be missing or stand in a table that is not theirs.
fn with_syntax(text: &str, faults: &[toml::de::Error], findings: &[Finding]) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    let mut faulty_lines: Vec<Range<usize>> = Vec::new();
    let mut sure_until = None;
    for fault in faults {
        let at = fault.span().unwrap_or(text.len()..text.len());
        let line = line_around(text, at.start);
        // One mistake makes the parser stumble several times; the first time tells.
        if faulty_lines.contains(&line) {
            continue;
        }
        all.push(match Fault::of(fault) {
            Fault::Duplicate => Finding::new(at, "this is there twice")
                .help("a key or a [table] stands once; only [[folder]] may be repeated"),
            Fault::Unquoted => Finding::new(at, "text, durations and sizes stand in quotes")
                .help("write it like \"main\", \"2s\" or \"64MiB\""),
            Fault::Other => {
                sure_until = sure_until.or(Some(line.start)).map(|until| until.min(line.start));
                Finding::new(at, format!("this is not TOML: {}", fault.message()))
            }
        });
        faulty_lines.push(line);
    }
    let sure = |found: &&Finding| {
        sure_until.is_none_or(|until| found.at().end <= until && !found.is_of_absence())
            && !faulty_lines.iter().any(|line| line.contains(&found.at().start) && found.at().start > 0)
    };
    all.extend(findings.iter().filter(sure).cloned());
    all
}

/// How far a fault of TOML reaches.
#[derive(Clone, Copy)]
enum Fault {
    /// A key is there twice; the parser keeps the first.
    Duplicate,
    /// A string without quotes; the parser takes it for a string.
    Unquoted,
    /// Anything else: what follows is uncertain.
    Other,
}

impl Fault {
    /// By the messages of toml 1.2, which gives no other sign. One that reads otherwise is `Other`, which is safe.
    fn of(fault: &toml::de::Error) -> Self {
        if fault.message() == "duplicate key" {
            Self::Duplicate
        } else if fault.message().starts_with("string values must be quoted") {
            Self::Unquoted
        } else {
            Self::Other
        }
    }
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = at.min(text.len());
    let start =
        text.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = text.as_bytes()[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(text.len(), |newline| at + newline);
    start..end
}

/// Where the state of a service with this config lies, also when the rest of the file cannot be used: a service that runs
/// knows more than the file does.
pub fn state_dir_of(text: &str, env: &Env) -> Option<PathBuf> {
    // Keys of the top stand before the first table.
    let top = text.lines().map(str::trim).take_while(|line| !line.starts_with('['));
    let said = top.filter(|line| line.starts_with("state_dir")).find_map(|line| {
        toml::from_str::<toml::Table>(line).ok()?.get("state_dir")?.as_str().map(str::to_owned)
    });
    match said {
        Some(said) => match said.strip_prefix("~/") {
            Some(below) => env.home.as_ref().map(|home| home.join(below)),
            None => Some(PathBuf::from(said)),
        },
        None => env.default_state_dir(),
    }
}
