//! Man pages and completions, as the program makes them, are there for every command and can be read by what reads them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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

/// The files below a directory, by their paths in it.
fn files_below(dir: &Path) -> BTreeMap<PathBuf, String> {
    let files = walkdir::WalkDir::new(dir)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file());
    files
        .map(|file| {
            (file.path().strip_prefix(dir).unwrap().to_owned(), fs::read_to_string(file.path()).unwrap())
        })
        .collect()
}

/// A plain `cargo deb` finds them in the source.
#[test]
fn what_the_package_holds_is_what_the_program_says() {
    let debian = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/debian");
    let made = tempfile::tempdir().unwrap();
    let output = Command::new(debian.join("make-files"))
        .args([Path::new(env!("CARGO_BIN_EXE_oxen-sync")), made.path()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let (kept, made) = (files_below(&debian.join("package")), files_below(made.path()));
    let differing = kept.keys().chain(made.keys()).find(|path| kept.get(*path) != made.get(*path));
    assert_eq!(
        differing, None,
        "systemd/debian/make-files target/debug/oxen-sync systemd/debian/package writes it anew"
    );
    let changelog = fs::read_to_string(debian.join("changelog")).unwrap();
    assert!(changelog.starts_with(concat!("oxen-sync (", env!("CARGO_PKG_VERSION"), "-1) ")), "{changelog}");
}
