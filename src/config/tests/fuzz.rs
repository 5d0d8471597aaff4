//! Texts that nobody would write: each is read or refused, and what is accepted is what a `Config` promises.

use proptest::prelude::*;

use super::{SMALLEST, env, read};
use crate::config::{Config, LoadError, Problems, load, schema};
use crate::path::is_printable;

/// What is said points into the text, and is text itself.
fn check_problems(text: &str, problems: &Problems) -> Result<(), TestCaseError> {
    prop_assert!(problems.count() > 0);
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in problems {
        prop_assert!((1..=lines.len()).contains(&problem.line()), "line {} of {text:?}", problem.line());
        // A secret or a hidden character is shown by as many signs as it has bytes.
        let len = lines[problem.line() - 1].len();
        prop_assert!((1..=len + 1).contains(&problem.column()), "column {} of {text:?}", problem.column());
        for words in [Some(problem.message()), problem.help()].into_iter().flatten() {
            prop_assert!(words.lines().all(|line| is_printable(&line.replace('\\', ""))), "{words:?}");
        }
    }
    for line in problems.to_string().split('\n') {
        prop_assert!(is_printable(&line.replace('\\', "")), "{line:?}");
    }
    problems.render(true);
    Ok(())
}

/// What the type's documentation says.
fn check_config(config: &Config) -> Result<(), TestCaseError> {
    prop_assert!(!config.folders.is_empty() && config.file.is_absolute() && config.state_dir.is_absolute());
    prop_assert!(!config.author.name.is_empty() && !config.author.email.is_empty());
    for (index, folder) in config.folders.iter().enumerate() {
        prop_assert!(folder.path.is_absolute() && folder.path.parent().is_some());
        prop_assert!(!config.state_dir.starts_with(&folder.path));
        prop_assert!(
            folder.settle.quiet <= folder.settle.max_wait && folder.batch.quiet <= folder.batch.max_wait
        );
        prop_assert!(folder.batch.max_files >= 1);
        let url = &folder.server.url;
        prop_assert!(matches!(url.scheme(), "http" | "https") && url.username().is_empty());
        prop_assert!(url.password().is_none() && url.query().is_none() && url.fragment().is_none());
        for pattern in folder.include.iter().chain(&folder.exclude) {
            prop_assert!(!pattern.contains('\n'));
        }
        for other in &config.folders[index + 1..] {
            let same_branch = folder.server.url == other.server.url
                && folder.repo == other.repo
                && folder.branch == other.branch;
            let one_in_the_other = folder.layout.fixed_dir().starts_with(other.layout.fixed_dir())
                || other.layout.fixed_dir().starts_with(folder.layout.fixed_dir());
            prop_assert!(!(same_branch && one_in_the_other), "two folders write the same paths");
        }
    }
    Ok(())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    match read(text) {
        Ok(config) => check_config(&config),
        Err(problems) => check_problems(text, &problems),
    }
}

fn any_value() -> impl Strategy<Value = toml::Value> {
    let words = vec![
        "2s",
        "0s",
        "1d",
        "64MiB",
        "http://localhost",
        "http://lab",
        "https://lab/x",
        "/a",
        "~/b",
        "a/b",
        "lab/a1",
        "main",
        "..",
        "keep",
        "auto",
        "default",
        "other",
        "*.tif",
        "\u{9b}",
        "\u{1b}[2J",
        "\u{202e}",
    ];
    let leaf = prop_oneof![
        4 => prop::sample::select(words).prop_map(toml::Value::from),
        1 => any::<String>().prop_map(toml::Value::from),
        1 => any::<i64>().prop_map(toml::Value::from),
        1 => any::<f64>().prop_map(toml::Value::from),
        1 => any::<bool>().prop_map(toml::Value::from),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::from),
            prop::collection::vec((any_key(), inner), 0..6)
                .prop_map(|fields| toml::Value::Table(fields.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known: Vec<&str> = schema::TABLES
        .iter()
        .flat_map(|(_, keys)| keys.iter().copied())
        .chain(["default", "other"])
        .collect();
    prop_oneof![6 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String) {
        check(&text)?;
        check(&format!("{SMALLEST}{text}"))?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, [SMALLEST.as_bytes(), &bytes].concat()).unwrap();
        match load(&file, &env()) {
            Ok(config) => check_config(&config)?,
            Err(LoadError::Problems(problems)) => prop_assert!(problems.count() > 0),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn any_toml_is_read_or_refused(fields in prop::collection::vec((any_key(), any_value()), 0..8)) {
        let table: toml::Table = fields.into_iter().collect();
        check(&table.to_string())?;
    }

    #[test]
    fn a_config_with_any_value_in_any_place_is_read_or_refused(
        changes in prop::collection::vec((any_key(), any_key(), any_value()), 1..4),
    ) {
        let mut table: toml::Table = SMALLEST.parse().unwrap();
        for (at, key, value) in changes {
            match table.get_mut(&at) {
                Some(toml::Value::Table(inner)) => {
                    inner.insert(key, value);
                }
                Some(toml::Value::Array(list)) if !list.is_empty() => {
                    let mut folder = list[0].clone();
                    if let toml::Value::Table(folder) = &mut folder {
                        folder.insert(key, value);
                    }
                    list.push(folder);
                }
                _ => {
                    table.insert(at, value);
                }
            }
        }
        check(&table.to_string())?;
    }
}
