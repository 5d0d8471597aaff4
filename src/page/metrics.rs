//! The report in Prometheus' text format 0.0.4.
//!
//! Written by hand: client libraries keep figures of their own that code counts up, and here all of them are in the report
//! already. The format is lines of `name{label="value"} number`.

use std::fmt::{Display, Write as _};

use super::process::Process;
use crate::status::{FolderReport, FolderState, Report};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is said of each folder: the name behind `oxen_sync_`, its help, and the figure; none where it is not known.
type OfFolder = (&'static str, &'static str, fn(&FolderReport) -> Option<f64>);

const GAUGES: &[OfFolder] = &[
    ("folder_files", "Files proved to be on the branch and still in the folder.", |f| Some(f.files as f64)),
    ("folder_bytes", "Bytes of the files proved to be on the branch and still in the folder.", |f| {
        Some(f.bytes as f64)
    }),
    ("folder_files_waiting", "Files that wait to be quiet, to be read or to be committed.", |f| {
        Some(f.waiting as f64)
    }),
    (
        "oldest_uncommitted_age_seconds",
        "How long ago the oldest change that is not committed yet was first seen; 0 where none waits.",
        |f| f.done.map(|_| f.oldest_waiting_s.unwrap_or(0) as f64),
    ),
    ("folder_failed_files", "Files that are not on the branch because something is wrong with them.", |f| {
        Some(f.failed as f64)
    }),
    ("folder_held_removals", "Removals that the brake holds until someone lets them go.", |f| {
        Some(f.held as f64)
    }),
    (
        "folder_held_back_files",
        "Files that wait for their run to be finished by a file of the name in batch.marker, up to 10,000.",
        |f| f.marker.as_ref().map(|_| f.held_back as f64),
    ),
    ("folder_coverage_ratio", "The share of the folder's directories that the kernel watches.", |f| {
        f.coverage_ratio
    }),
    ("folder_tries_failed_in_a_row", "Tries to push that failed since the last one that did not.", |f| {
        Some(f.retry.as_ref().map_or(0.0, |retry| f64::from(retry.attempts)))
    }),
    ("last_commit_timestamp_seconds", "When the last commit was proved, since the epoch.", |f| {
        f.last_commit.as_ref().and_then(|commit| seconds(&commit.at))
    }),
];

const COUNTERS: &[OfFolder] = &[
    ("commits_total", "Commits that were made and proved.", |f| f.done.map(|done| done.commits as f64)),
    ("pushed_files_total", "Files that commits put on the branch.", |f| f.done.map(|done| done.files as f64)),
    ("pushed_bytes_total", "Bytes of the files that commits put on the branch.", |f| {
        f.done.map(|done| done.bytes as f64)
    }),
    ("removed_files_total", "Files that commits removed from the branch.", |f| {
        f.done.map(|done| done.removed as f64)
    }),
    (
        "taken_off_files_total",
        "Files that are on the branch and were deleted here or moved away, as after_push says.",
        |f| f.done.map(|done| done.taken_off as f64),
    ),
    ("taken_off_bytes_total", "Bytes of the files that were deleted here or moved away.", |f| {
        f.done.map(|done| done.taken_off_bytes as f64)
    }),
    ("retries_total", "Tries to push that failed; each is followed by another.", |f| {
        f.done.map(|done| done.failed_tries as f64)
    }),
    ("scans_total", "How often the whole folder was looked at.", |f| f.done.map(|_| f.scans as f64)),
];

const STATES: &[(FolderState, &str)] = &[
    (FolderState::Starting, "starting"),
    (FolderState::Scanning, "scanning"),
    (FolderState::Watching, "watching"),
    (FolderState::Pushing, "pushing"),
    (FolderState::Paused, "paused"),
    (FolderState::OutsideWindow, "outside_window"),
    (FolderState::Waiting, "waiting"),
    (FolderState::Stopped, "stopped"),
    (FolderState::Broken, "broken"),
];

/// All figures of a report, and of the process.
pub(super) fn text(report: &Report) -> String {
    let mut out = Exposition::default();
    out.family("oxen_sync_build_info", "gauge", "The version that runs.");
    out.sample(&[("version", &report.version)], 1);
    out.family("oxen_sync_config_refused", "gauge", "Whether the config was changed and refused.");
    out.sample(&[], u8::from(report.config_refused.is_some()));
    for (kind, figures) in [("gauge", GAUGES), ("counter", COUNTERS)] {
        for (name, help, figure) in figures {
            out.family(&format!("oxen_sync_{name}"), kind, help);
            for folder in &report.folders {
                if let Some(figure) = figure(folder) {
                    out.sample(&of(folder, &target(folder)), figure);
                }
            }
        }
    }
    out.family("oxen_sync_folder_state", "gauge", "1 for the state that the folder is in, 0 for all others.");
    for folder in &report.folders {
        let target = target(folder);
        for (state, name) in STATES {
            let [path, target, server] = of(folder, &target);
            out.sample(&[path, target, server, ("state", name)], u8::from(folder.state == *state));
        }
    }
    process(&mut out, report);
    out.text
}

fn process(out: &mut Exposition, report: &Report) {
    let process = Process::read();
    if let Some(start) = report.started_at.as_deref().and_then(seconds) {
        out.family("process_start_time_seconds", "gauge", "When the service started, since the epoch.");
        out.sample(&[], start);
    }
    out.family("process_cpu_seconds_total", "counter", "Processor time since the start.");
    out.sample(&[], process.cpu_seconds);
    if let Some(bytes) = process.resident_bytes {
        out.family("process_resident_memory_bytes", "gauge", "Memory in RAM.");
        out.sample(&[], bytes);
    }
    if let Some(fds) = process.open_fds {
        out.family("process_open_fds", "gauge", "Descriptors that are open.");
        out.sample(&[], fds);
    }
    if let Some(fds) = process.max_fds {
        out.family("process_max_fds", "gauge", "Descriptors that may be open.");
        out.sample(&[], fds);
    }
}

/// The labels that tell a folder from every other: one may be pushed to several places.
fn of<'a>(folder: &'a FolderReport, target: &'a str) -> [(&'static str, &'a str); 3] {
    [("folder", &folder.path), ("target", target), ("server", &folder.server)]
}

fn target(folder: &FolderReport) -> String {
    let dir = if folder.remote_dir.is_empty() { String::new() } else { format!(":{}", folder.remote_dir) };
    format!("{}@{}{dir}", folder.repo, folder.branch)
}

/// A moment in RFC 3339 as seconds since the epoch.
fn seconds(at: &str) -> Option<f64> {
    let at: jiff::Timestamp = at.parse().ok()?;
    Some(at.as_millisecond() as f64 / 1000.0)
}

#[derive(Default)]
struct Exposition {
    text: String,
    name: String,
}

impl Exposition {
    /// Begins a metric; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        name.clone_into(&mut self.name);
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{escaped}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::status::{CommitReport, DoneReport, RetryReport};
    use std::collections::BTreeSet;

    pub(in crate::page) fn report() -> Report {
        let commit = CommitReport {
            id: "c".to_owned(),
            url: None,
            at: "2026-11-05T10:00:00.5Z".to_owned(),
            files: 3,
            removed: 1,
            bytes: 7,
        };
        let busy = FolderReport {
            path: "/data/a \\ \"b\"".to_owned(),
            server: "http://localhost:3000/".to_owned(),
            repo: "lab/cells".to_owned(),
            branch: "main".to_owned(),
            remote_dir: "rig".to_owned(),
            state: FolderState::Waiting,
            files: 12,
            waiting: 5,
            failed: 2,
            held: 4,
            marker: Some("DONE".to_owned()),
            held_back: 8,
            oldest_waiting_s: Some(61),
            coverage_ratio: Some(0.25),
            last_commit: Some(commit),
            retry: Some(RetryReport { attempts: 3, next_at: String::new(), reason: String::new() }),
            done: Some(DoneReport {
                commits: 9,
                files: 90,
                removed: 1,
                bytes: 1 << 40,
                failed_tries: 7,
                taken_off: 6,
                taken_off_bytes: 60,
            }),
            ..FolderReport::default()
        };
        let new =
            FolderReport { path: "/new".to_owned(), state: FolderState::Starting, ..FolderReport::default() };
        let report = Report::without_service("/etc/x".as_ref(), &[], None).unwrap();
        Report { folders: vec![busy, new], ..report.with_service("2026-11-05T09:00:00Z") }
    }

    #[test]
    fn a_report_is_told_in_figures() {
        let text = text(&report());
        let of = r#"{folder="/data/a \\ \"b\"",target="lab/cells@main:rig",server="http://localhost:3000/"}"#;
        for (name, value) in [
            ("folder_files", "12"),
            ("folder_files_waiting", "5"),
            ("oldest_uncommitted_age_seconds", "61"),
            ("folder_failed_files", "2"),
            ("folder_held_removals", "4"),
            ("folder_held_back_files", "8"),
            ("folder_coverage_ratio", "0.25"),
            ("folder_tries_failed_in_a_row", "3"),
            ("last_commit_timestamp_seconds", "1793872800.5"),
            ("commits_total", "9"),
            ("pushed_files_total", "90"),
            ("pushed_bytes_total", "1099511627776"),
            ("removed_files_total", "1"),
            ("taken_off_files_total", "6"),
            ("taken_off_bytes_total", "60"),
            ("retries_total", "7"),
        ] {
            assert!(text.contains(&format!("\noxen_sync_{name}{of} {value}\n")), "{name}:\n{text}");
        }
        assert!(text.contains(r#"state="waiting"} 1"#) && text.contains(r#"state="broken"} 0"#), "{text}");
        assert!(text.contains("\nprocess_start_time_seconds 1793869200\n"), "{text}");
        assert!(
            text.contains("\nprocess_resident_memory_bytes ") && text.contains("\nprocess_open_fds "),
            "{text}"
        );
        assert!(text.contains("\nprocess_max_fds "), "{text}");
        // What is not known of a folder is not told.
        let of_new = |name: &str| text.contains(&format!("\noxen_sync_{name}{{folder=\"/new\""));
        assert!(
            of_new("folder_files_waiting") && !of_new("folder_coverage_ratio") && !of_new("commits_total")
        );
    }

    #[test]
    fn alerts_and_dashboard_name_only_figures_that_are_served() {
        let text = text(&report());
        let served: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let dashboard = include_str!("../../config/grafana-dashboard.json");
        let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() > 5));
        for (file, text) in
            [("alerts", include_str!("../../config/prometheus-alerts.yml")), ("dashboard", dashboard)]
        {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let named: BTreeSet<_> =
                words.filter(|word| word.starts_with("oxen_sync_") || word.starts_with("process_")).collect();
            assert!(named.len() > 5, "{file}: {named:?}");
            assert!(named.is_subset(&served), "{file}: {:?}", named.difference(&served));
        }
    }
}
