//! What the documents say of tests is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "tests/it"]
        .iter()
        .flat_map(|dir| WalkDir::new(root.join(dir)))
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for (document, least) in [("SECURITY.md", 20), ("tests/README.md", 40)] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let named = tests_named(&text);
        assert!(named.len() > least, "{document}: {named:?}");
        for name in named {
            assert!(is_there(root, &sources, name), "{document} names {name}, which is not there");
        }
    }
}

/// What stands in backquotes in the last column of the tables.
fn tests_named(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    last.flat_map(|tests| tests.split('`').skip(1).step_by(2)).collect()
}

fn is_there(root: &Path, sources: &str, name: &str) -> bool {
    match name {
        script if script.starts_with("tests/") => root.join(script.split(' ').next().unwrap()).exists(),
        module if module.contains("::") || module == "fuzz" => module
            .split("::")
            .filter(|name| !name.is_empty())
            .all(|name| sources.contains(&format!("mod {name};"))),
        test => sources.contains(&format!("fn {test}")),
    }
}
