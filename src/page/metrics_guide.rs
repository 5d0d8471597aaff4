//! The guide's page of the figures lists what `/metrics` serves.
//!
//! `UPDATE_GUIDE=1 cargo test --lib guide` writes its table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use regex::Regex;

use super::metrics;

const FILE: &str = "src/guide/metrics.md";
const HEAD: &str = "| Figure | Type | Labels | Unit | Meaning |\n|---|---|---|---|---|\n";

/// What a figure counts, by its name.
const UNITS: &[(&str, &str)] = &[
    ("timestamp_seconds", "seconds since 1970"),
    ("time_seconds", "seconds since 1970"),
    ("seconds", "seconds"),
    ("bytes", "bytes"),
    ("ratio", "0 to 1"),
    ("info", "always 1"),
    ("state", "0 or 1"),
    ("refused", "0 or 1"),
    ("files", "files"),
    ("files_waiting", "files"),
    ("removals", "removals"),
    ("commits", "commits"),
    ("retries", "tries"),
    ("failed_in_a_row", "tries"),
    ("scans", "scans"),
    ("fds", "descriptors"),
];

fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    let of = UNITS.iter().find(|(end, _)| name.ends_with(&format!("_{end}")));
    of.unwrap_or_else(|| panic!("the unit of {name} is not known")).1
}

/// The table of a text in Prometheus' format.
fn table(text: &str) -> String {
    let label = Regex::new("[{,](\\w+)=\"").unwrap();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let name = sample.split(['{', ' ']).next().unwrap();
        let of = labels.entry(name).or_default();
        of.extend(label.captures_iter(sample).map(|found| found.get(1).unwrap().as_str()));
    }
    let mut table = HEAD.to_owned();
    let mut help = "";
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ').unwrap().1;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|said| said.split_once(' ')) {
            let labels: Vec<_> = labels[name].iter().map(|label| format!("`{label}`")).collect();
            writeln!(table, "| `{name}` | {kind} | {} | {} | {help} |", labels.join(", "), unit(name))
                .unwrap();
        }
    }
    table
}

#[test]
fn the_guide_lists_every_figure() {
    let text = metrics::text(&metrics::tests::report());
    let table = table(&text);
    assert!(table.lines().count() > 20, "{table}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let page = fs::read_to_string(&file).unwrap();
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        let (before, rest) = page.split_once(HEAD).unwrap();
        let after: String = rest.split_inclusive('\n').skip_while(|line| line.starts_with('|')).collect();
        fs::write(file, format!("{before}{table}{after}")).unwrap();
    } else {
        let states = Regex::new("state=\"(\\w+)\"").unwrap();
        for state in states.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()) {
            assert!(page.contains(&format!("`{state}`")), "{FILE} does not name the state {state}");
        }
        assert!(
            page.contains(&table),
            "{FILE} does not say what is served; UPDATE_GUIDE=1 mends it:\n{table}"
        );
    }
}
