//! The guide is true: each command in it is run against the real server, in the order of its page, and prints what the page says
//! it prints. Times, ids and the like may differ.
//!
//! `UPDATE_GUIDE=1 cargo test --test it guide` writes what they print into the pages where it is something else;
//! `UPDATE_GUIDE=all` writes all of it.

mod alike;
mod page;
mod shell;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};

use self::alike::alike;
use self::page::{Page, Piece};
use self::shell::Shell;
use self::stage::Stage;
use crate::support::site::Site;

macro_rules! pages {
    ($($page:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $page() {
            says_what_is_so(stringify!($page)).await;
        })+

        const PAGES: &[&str] = &[$(stringify!($page)),+];
    };
}

pages! { tutorial, camera, microscope, robot, nas, many_rigs, watch, metrics, commands, promises }

fn file_of(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide").join(page).with_extension("md")
}

async fn says_what_is_so(name: &str) {
    // Without the real server, the one from memory says the same.
    let site = match Site::real_of_its_own().await {
        Some((site, _)) => site,
        None => Site::standin().await,
    };
    let file = file_of(name);
    let page = Page::parse(&fs::read_to_string(&file).unwrap());
    let stage = Stage::of(name, &site.url);
    let mut shell = Shell::start(&stage);
    let mut found = page.clone();
    let mut wrong = Vec::new();
    let update = std::env::var_os("UPDATE_GUIDE");
    let writes_all = update.as_ref().is_some_and(|value| value == "all");
    for piece in &mut found.0 {
        let Piece::Command { typed, printed } = piece else { continue };
        let said = stage.shown(&shell.run(&stage.typed(typed)));
        if !alike(printed, &said) {
            wrong.push(format!("$ {typed}\n--- the page says\n{printed}--- it prints\n{said}"));
        }
        // What differs in nothing that counts stays as it is.
        if !alike(printed, &said) || writes_all {
            *printed = said;
        }
    }
    drop(shell);
    if update.is_some() {
        fs::write(file, found.to_text()).unwrap();
    } else {
        assert!(
            wrong.is_empty(),
            "{name}.md says what is not so; UPDATE_GUIDE=1 mends it:\n{}",
            wrong.join("\n")
        );
    }
}

#[test]
fn every_page_is_tried() {
    let dir = file_of("x");
    let pages = fs::read_dir(dir.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = pages
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
        .map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    pages.sort();
    let mut known = PAGES.to_vec();
    known.sort_unstable();
    assert_eq!(pages, known);
    let map = fs::read_to_string(dir.with_file_name("mod.rs")).unwrap();
    assert!(PAGES.iter().all(|page| map.contains(&format!("include_str!(\"{page}.md\")"))), "{map}");
}

/// Every alert has its row on the page about watching: with how bad it is, and after how long it comes.
#[test]
fn every_alert_is_in_the_guide() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus-alerts.yml");
    let rules = fs::read_to_string(rules).unwrap();
    let page = fs::read_to_string(file_of("watch")).unwrap();
    let mut known = Vec::new();
    for rule in rules.split("- alert: ").skip(1) {
        let of = |key: &str| rule.split_once(key).unwrap().1.lines().next().unwrap();
        let name = rule.lines().next().unwrap();
        let row = format!("| `{name}` | {} | {} |", of(" severity: "), of(" for: "));
        assert!(page.contains(&row), "watch.md has no row {row}");
        known.push(name);
    }
    let rows = page.lines().filter(|line| line.starts_with("| `OxenSync")).count();
    assert!(rows == known.len() && rows > 5, "{known:?}");
}

/// Every command of the program has its place in the page of commands.
#[test]
fn every_command_is_in_the_guide() {
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_oxen-sync")).arg("--help").output().unwrap();
    let help = String::from_utf8(said.stdout).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let page = fs::read_to_string(file_of("commands")).unwrap();
    for name in names.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help") {
        assert!(page.contains(&format!("## oxen-sync {name}\n")), "{name} is not in commands.md");
    }
}
