use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::Exit;

/// Prints text for a person or a program. Whoever reads may have gone, as `head` does: then nothing is printed any more,
/// and that is no failure.
pub(super) fn print(text: &str) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("oxen-sync: cannot print: {error}");
            Err(Exit::Failure)
        }
        _ => Ok(()),
    }
}

/// Prints text with colours, where a person looks who wants them (`NO_COLOR`).
pub(super) fn print_coloured(text: &str) -> Result<(), Exit> {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => print(&anstream::adapter::strip_str(text).to_string()),
        _ => print(text),
    }
}

/// How many lines the terminal has; `None` where that cannot be said.
pub(super) fn rows() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// Prints a value as JSON in one line.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<(), Exit> {
    match serde_json::to_string(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            eprintln!("oxen-sync: {error}");
            Err(Exit::Failure)
        }
    }
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Exit> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => {
            eprintln!("oxen-sync: {error}");
            Err(Exit::Failure)
        }
    }
}

/// What a command that failed before it had anything to report prints with `--json`.
#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
    problems: Vec<ConfigProblem<'a>>,
}

/// One problem of the config.
#[derive(Serialize)]
pub(super) struct ConfigProblem<'a> {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: &'a str,
    pub help: Option<&'a str>,
}

/// The problems of a config that was read and cannot be used.
pub(super) fn config_problems(error: &crate::config::LoadError) -> Vec<ConfigProblem<'_>> {
    let crate::config::LoadError::Problems(problems) = error else { return Vec::new() };
    let file = crate::path::printable(problems.file());
    let problems = problems.iter().map(|found| ConfigProblem {
        file: file.clone(),
        line: found.line(),
        column: found.column(),
        message: found.message(),
        help: found.help(),
    });
    problems.collect()
}

/// Says that the config cannot be used: in words, or with `json` as `{"error", "problems": [{"file", "line", "column",
/// "message", "help"}]}`.
pub(super) fn refuse_config(error: &crate::config::LoadError, json: bool) -> Exit {
    if json {
        let text = error.to_string();
        let refused = Refused { error: &text, problems: config_problems(error) };
        return print_json(&refused).err().unwrap_or(Exit::Usage);
    }
    eprintln!("{error}");
    Exit::Usage
}

/// Says that a command failed: in words, or with `json` as `{"error", "problems": []}`.
pub(super) fn fail(error: &dyn std::fmt::Display, json: bool) -> Exit {
    let text = error.to_string();
    if json {
        return print_json(&Refused { error: &text, problems: Vec::new() }).err().unwrap_or(Exit::Failure);
    }
    eprintln!("oxen-sync: {text}");
    Exit::Failure
}
