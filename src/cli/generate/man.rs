//! The man pages. What stands in `--help` is taken from there; the files and variables are told here.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// The files that a user meets, and what they are.
const FILES: [(&str, &str); 6] = [
    ("/etc/oxen-sync/oxen-sync.toml", "The config, unless --config or OXEN_SYNC_CONFIG names another."),
    (
        "/var/lib/oxen-sync",
        "Where the systemd service remembers what it has pushed, and the socket that status asks.",
    ),
    ("~/.local/state/oxen-sync", "The same without systemd, where the config names no state_dir."),
    ("/etc/credstore/oxen-api-key", "The API key, which systemd hands to the service."),
    (
        "~/.config/oxen/auth_config.toml",
        "What the Oxen CLI stored; the last place where a key is looked for.",
    ),
    (".oxenignore", "In a watched folder: which of its files not to push, written as in .gitignore."),
];

/// The variables that no option names, and what they say.
const VARIABLES: [(&str, &str); 6] = [
    ("OXEN_API_KEY", "The API key for the server in [server], where no credential and no key_file has one."),
    ("CREDENTIALS_DIRECTORY", "Where the credential oxen-api-key is looked for first; systemd sets it."),
    ("STATE_DIRECTORY", "The state directory, where the config names none; systemd sets it."),
    ("XDG_STATE_HOME", "Holds the state directory oxen-sync where neither of them names one."),
    ("OXEN_CONFIG_DIR", "Where the Oxen CLI keeps its settings, if not in ~/.config/oxen."),
    ("HOME", "What ~ stands for in the config."),
];

/// Each page under the name of its file: one for the program and one for each of its commands.
pub(super) fn pages(mut program: Command) -> Vec<(String, String)> {
    // As on the pages of others: `oxen-sync help push` is `man oxen-sync-push`.
    program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = vec![page(&program, None)];
    pages.extend(program.get_subcommands().map(|command| page(command, Some(&program))));
    pages
}

/// The page of a command, or of the program itself if it belongs to none.
fn page(command: &Command, program: Option<&Command>) -> (String, String) {
    let man = Man::new(command.clone())
        .source(concat!("oxen-sync ", env!("CARGO_PKG_VERSION")))
        .manual("oxen-sync");
    let mut page = Vec::new();
    let mut parts = [
        Man::render_title,
        Man::render_name_section,
        Man::render_synopsis_section,
        Man::render_description_section,
        Man::render_options_section,
    ]
    .to_vec();
    if program.is_none() {
        parts.push(Man::render_subcommands_section);
    }
    for part in parts {
        // Writing into memory does not fail.
        let _ = part(&man, &mut page);
    }
    let mut text = String::from_utf8_lossy(&page).into_owned();

    let mut rest = Roff::new();
    exit_status(&mut rest, program.unwrap_or(command));
    if program.is_none() {
        environment(&mut rest, command);
        table(&mut rest, "FILES", &FILES);
    } else {
        examples(&mut rest, command);
    }
    see_also(&mut rest, command, program);
    text.push_str(&rest.render());
    (man.get_filename(), text)
}

/// The lines below a heading of what stands at the end of `--help`.
fn at_the_end(command: &Command, heading: &str) -> Vec<String> {
    let end = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = end.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    lines.map(|line| line.trim().to_owned()).collect()
}

fn exit_status(roff: &mut Roff, program: &Command) {
    let lines = at_the_end(program, "Exit codes:");
    let codes: Vec<_> = lines.iter().filter_map(|line| line.split_once("  ")).collect();
    table(roff, "EXIT STATUS", &codes);
}

fn examples(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in at_the_end(command, "Example") {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn environment(roff: &mut Roff, program: &Command) {
    let mut rows: Vec<(String, String)> = Vec::new();
    let commands = std::iter::once(program).chain(program.get_subcommands());
    for arg in commands.flat_map(Command::get_arguments) {
        if let (Some(name), Some(option)) = (arg.get_env().and_then(|name| name.to_str()), arg.get_long())
            && rows.iter().all(|(known, _)| known != name)
        {
            rows.push((name.to_owned(), format!("What --{option} says, where it is not given.")));
        }
    }
    let rows = rows.iter().map(|(name, what)| (name.as_str(), what.as_str()));
    let rows: Vec<_> = rows.chain(VARIABLES).collect();
    table(roff, "ENVIRONMENT", &rows);
}

fn table(roff: &mut Roff, heading: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (name, what) in rows {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*what)]);
    }
}

fn see_also(roff: &mut Roff, command: &Command, program: Option<&Command>) {
    let name = |of: &Command| of.get_display_name().unwrap_or_else(|| of.get_name()).to_owned();
    let own = name(command);
    let all = std::iter::once(program.unwrap_or(command)).chain(program.unwrap_or(command).get_subcommands());
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for other in all.map(name).filter(|other| *other != own) {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(other), roman("(1)")]);
    }
    roff.text(line);
    roff.control("PP", []);
    roff.text([
        roman("Every key of the config, its default and its unit: the reference in "),
        italic("config/oxen-sync.toml"),
        roman(", in the package "),
        italic("/usr/share/doc/oxen-sync/oxen-sync.toml"),
        roman("."),
    ]);
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::shown;
    use super::*;
    use crate::config::Env;

    #[test]
    fn the_page_of_the_program_tells_every_variable_that_is_asked_for() {
        let asked = RefCell::new(Vec::new());
        Env::from_vars(|name| {
            asked.borrow_mut().push(name.to_owned());
            None
        });
        let (name, page) = pages(shown()).remove(0);
        assert_eq!(name, "oxen-sync.1");
        let options = ["OXEN_SYNC_CONFIG".to_owned(), "OXEN_SYNC_LOG".to_owned()];
        for variable in asked.into_inner().into_iter().chain(options) {
            assert!(page.contains(&format!("\\fB{variable}\\fR")), "{variable} is not in {page}");
        }
    }
}
