//! Whether two outputs differ in nothing but what differs from one run to the next.

use regex::{Captures, Regex};

/// What may differ, and what stands for it. Tried in this order.
const VARIES: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\([0-9a-f]{9}\+?, \d{4}-\d\d-\d\d\)", "BUILT"),
    (r"\b[0-9a-f]{16,64}\b", "ID"),
    (r#"process \d+"#, "process N"),
    (r#""ticket":\d+"#, "TICKET"),
    (r"\b\d+(\.\d+)? (ms|s|min)\b", "SPAN"),
    (r"\b\d+(\.\d+)? (GiB|TiB) are free", "SPACE are free"),
    (r"\d+(\.\d+)? (KiB|MiB|GiB|TiB) are advised", "SPACE are advised"),
    (r"on Linux \S+ \(\S+\)", "on Linux"),
    (r"\d+ allowed", "N allowed"),
    (r"\d+ are allowed", "N are allowed"),
];

pub(super) fn alike(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

fn plain(text: &str) -> String {
    VARIES.iter().fold(text.to_owned(), |text, (pattern, word)| {
        Regex::new(pattern).unwrap().replace_all(&text, |_: &Captures<'_>| (*word).to_owned()).into_owned()
    })
}

#[test]
fn what_varies_is_not_compared_and_all_else_is() {
    let one = "at commit 97d9cebff34e14e497ab19b34e68a014 since 2026-11-26T09:00:01.5Z in 0.4 s, process 12";
    let other = "at commit 00d9cebff34e14e497ab19b34e68a0aa since 2027-01-01T00:00:00Z in 12.0 s, process 9";
    assert!(alike(one, other));
    for (one, other) in [("1 file", "2 files"), ("3.0 MiB", "4.0 MiB"), ("a\n", "a"), ("main", "rig-7")] {
        assert!(!alike(one, other), "{one} {other}");
    }
}
