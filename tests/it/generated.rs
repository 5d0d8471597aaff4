//! Man pages and completions, as the program makes them, are there for every command and can be read by what reads them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use oxen_sync::cli::Cli;

use crate::support::means::{leave_out, tool};

fn generate(arguments: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_oxen-sync")).arg("generate").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn every_command_has_a_man_page_without_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    generate(&["man", pages.to_str().unwrap()]);
    let shown: Vec<_> =
        Cli::command().get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    assert!(shown.len() >= 6, "{shown:?}");
    for command in &shown {
        let page = fs::read_to_string(pages.join(format!("oxen-sync-{}.1", command.get_name()))).unwrap();
        let about = command.get_about().unwrap().to_string();
        assert!(
            page.contains(&about) || page.contains(&about.replace('-', "\\-")),
            "{about} is not in {page}"
        );
        for section in ["EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            assert!(page.contains(section), "{section} is not in {page}");
        }
    }
    let page = fs::read_to_string(pages.join("oxen-sync.1")).unwrap();
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
        assert!(page.contains(section), "{section} is not in {page}");
    }

    let all: Vec<_> = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all.len(), shown.len() + 1, "{all:?}");
    if let Err(why) = tool(&["man", "--version"]) {
        return leave_out(&format!("man pages cannot be read: {why}"));
    }
    for page in all {
        let mode = fs::metadata(&page).unwrap().permissions().mode();
        assert_eq!(mode & 0o444, 0o444, "{page:?} is for everyone to read");
        let output =
            Command::new("man").args(["--warnings", "-E", "UTF-8", "-l"]).arg(&page).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{page:?}: {output:?}");
        let read = String::from_utf8(output.stdout).unwrap();
        assert!(read.contains("NAME") && !read.contains("generate"), "{read}");
    }
}

#[test]
fn every_shell_takes_its_completions() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = dir.path().join(shell);
        fs::write(&script, generate(&["completions", shell]).stdout).unwrap();
        match tool(&[shell, "--version"]) {
            Ok(()) => tool(&[Path::new(shell), Path::new("-n"), &script]).unwrap(),
            Err(why) => leave_out(&format!("completions are not tried: {why}")),
        }
    }
    // Asked as a person asks, by Tab.
    let script = dir.path().join("bash");
    let ask = r#"source "$0"; COMP_WORDS=(oxen-sync st); COMP_CWORD=1; f=$(complete -p oxen-sync); f=${f#*-F }; ${f%% *} oxen-sync st oxen-sync; echo "${COMPREPLY[*]}""#;
    let output = Command::new("bash").args(["-c", ask]).arg(&script).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "status\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
