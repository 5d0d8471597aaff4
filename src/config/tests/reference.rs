//! The reference file is a config, tells the truth, and is torn to pieces without harm.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{SMALLEST, good, read};
use crate::config::{DEFAULT_EXCLUDES, schema};

const REFERENCE: &str = include_str!("../../../config/oxen-sync.toml");

/// The reference with every key that is commented out put in force.
fn uncommented() -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_is_a_config() {
    assert_eq!(good(REFERENCE), good(SMALLEST));
}

#[test]
fn the_reference_tells_the_true_defaults() {
    // The example of a proxy is one for a server elsewhere.
    let config = good(&uncommented().replacen("http://localhost:3000", "https://oxen.lab.example", 1));
    assert_eq!(config.folders[0].server.name, "hub");
    // Keys without a default, which show an example.
    let examples = [
        "state_dir",
        "listen",
        "group",
        "socket",
        "key_file",
        "proxy",
        "ca_file",
        "server",
        "create_branch_from",
        "description",
        "after_push.move_to",
        "batch.marker",
    ];
    let text: String = uncommented()
        .lines()
        .filter(|line| {
            !examples.iter().chain(&["max_file_size"]).any(|key| line.starts_with(&format!("{key} =")))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(good(&text), good(SMALLEST));
}

#[test]
fn the_reference_names_every_key_and_pattern() {
    let text = uncommented();
    let (_, tables) = schema::TABLES.split_first().unwrap();
    for (table, keys) in tables {
        for key in
            keys.iter().filter(|key| !matches!(**key, "settle" | "batch" | "delete_brake" | "after_push"))
        {
            let line = match *table {
                "settle" | "batch" | "delete_brake" | "after_push" => format!("\n{table}.{key} = "),
                _ => format!("\n{key} = "),
            };
            assert!(text.contains(&line), "{table} {key}");
        }
    }
    for key in schema::TOP {
        let written = [format!("\n{key} ="), format!("\n[{key}"), format!("\n[[{key}]]")];
        assert!(written.iter().any(|form| text.contains(form)), "{key}");
    }
    let words: BTreeSet<_> = REFERENCE.split_whitespace().collect();
    for pattern in DEFAULT_EXCLUDES {
        assert!(words.contains(pattern) || REFERENCE.contains(&format!("\"{pattern}\"")), "{pattern}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused(text in "\\PC{0,200}|([a-z_]{1,6}|=|\"|\\[|\\]|\\{|\\}|[.,#'\n ]|[0-9]){0,60}") {
        if let Err(problems) = read(&text) {
            prop_assert!(problems.count() > 0);
            problems.render(true);
        }
    }

    #[test]
    fn a_mutilated_reference_is_read_or_refused(
        cuts in prop::collection::vec((0.0..1.0f64, 0usize..40, "[\"'\\[\\]{}=.#\n\\\\a5]{0,3}"), 1..6),
    ) {
        let mut text = uncommented();
        for (place, len, insert) in cuts {
            let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let start = boundary((place * text.len() as f64) as usize);
            let end = boundary(start + len).max(start);
            text.replace_range(start..end, &insert);
        }
        if let Err(problems) = read(&text) {
            prop_assert!(problems.count() > 0);
            let lines = text.lines().count().max(1);
            for problem in &problems {
                prop_assert!((1..=lines + 1).contains(&problem.line()));
            }
            problems.render(false);
        }
    }
}

#[test]
fn the_config_of_the_readme_is_one_to_which_its_folder_can_be_added() {
    let readme = include_str!("../../../README.md");
    let text = readme.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    good(text);
    assert!(
        readme.contains("oxen-sync add /data/microscope --repo lab/cells --remote-dir microscope --config")
    );
    let new = crate::config::NewFolder {
        path: "/data/microscope".into(),
        server: None,
        repo: "lab/cells".parse().unwrap(),
        branch: None,
        remote_dir: Some(crate::path::RepoPath::parse("microscope").unwrap()),
    };
    assert_eq!(good(&crate::config::add_folder(text, &new).unwrap()).folders.len(), 2);
}
