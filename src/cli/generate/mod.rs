//! Man pages and completions, made by the program itself so that they say what its `--help` says.

mod man;

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::aot;

use super::Exit;
use super::args::{Cli, EXIT_CODES, Generate, Shell, VERSION};
use super::out::{fail, print};
use crate::path::printable;

pub(super) fn run(what: &Generate) -> Exit {
    match what {
        Generate::Man { dir } => match write_pages(dir) {
            Ok(()) => Exit::Success,
            Err(error) => fail(&format!("cannot write into {}: {error}", printable(dir)), false),
        },
        Generate::Completions { shell } => print(&completions(*shell)).err().unwrap_or(Exit::Success),
    }
}

fn write_pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    man::pages(shown()).into_iter().try_for_each(|(name, page)| std::fs::write(dir.join(name), page))
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = shown();
    match shell {
        Shell::Bash => aot::generate(aot::Bash, &mut command, "oxen-sync", &mut script),
        Shell::Zsh => aot::generate(aot::Zsh, &mut command, "oxen-sync", &mut script),
        Shell::Fish => aot::generate(aot::Fish, &mut command, "oxen-sync", &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

/// The program's arguments without the commands that `--help` hides: completions would show them.
fn shown() -> clap::Command {
    let all = Cli::command();
    let commands: Vec<_> = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    clap::Command::new("oxen-sync")
        .version(VERSION)
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(EXIT_CODES)
        .args(all.get_arguments().cloned())
        .subcommand_required(true)
        .subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command_that_help_shows_and_no_other() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert_eq!(script.contains(name), !command.is_hide_set(), "{shell:?}: {name}");
            }
            assert!(script.contains("remote-dir"), "{shell:?}: {script}");
        }
    }
}
