//! What SECURITY.md says of tests is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

#[test]
fn every_test_that_security_md_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "tests/it"]
        .iter()
        .flat_map(|dir| WalkDir::new(root.join(dir)))
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let security = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut named = BTreeSet::new();
    for row in security.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Threat")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        named.extend(tests.split('`').skip(1).step_by(2));
    }
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        let is_there = match name {
            script if script.starts_with("tests/run") || script == "tests/systemd/run" => {
                root.join(script.split(' ').next().unwrap()).exists()
            }
            module if module.contains("::") || module == "fuzz" => module
                .split("::")
                .filter(|name| !name.is_empty())
                .all(|name| sources.contains(&format!("mod {name};"))),
            test => sources.contains(&format!("fn {test}")),
        };
        assert!(is_there, "SECURITY.md names {name}, which is not there");
    }
}
