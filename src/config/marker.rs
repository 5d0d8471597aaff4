//! `batch.marker`: what it means, and where nothing would ever be finished.

use super::patterns;
use super::problem::Finding;
use super::raw::Settings;
use crate::path::printable;

/// The longest name of a file that Linux's file systems know, in bytes.
const NAME_MAX: usize = 255;

/// The name of the file that finishes a run.
pub(super) fn marker(raw: &Settings, findings: &mut Vec<Finding>) -> Option<String> {
    let name = raw.batch.marker.as_ref()?;
    let text = name.get_ref();
    let is_name = (1..=NAME_MAX).contains(&text.len())
        && !text.contains(['/', '\0'])
        && !matches!(text.as_str(), "." | "..");
    if !is_name {
        findings.push(
            Finding::new(name.span(), "`batch.marker` is no name of a file")
                .help("write a name without a path, such as \"DONE\""),
        );
    }
    is_name.then(|| text.clone())
}

/// Notes what only all of a folder's settings together can show: a marker that no run would ever get, and a transport that
/// carries no run whole.
pub(super) fn note_marker(
    raw: &Settings,
    exclude: &[String],
    include: &[String],
    findings: &mut Vec<Finding>,
) {
    let Some(marker) = &raw.batch.marker else { return };
    let name = marker.get_ref();
    if raw.transport.as_ref().is_some_and(|transport| transport.get_ref() == "put") {
        let message = "one PUT does not carry a run with its `batch.marker`";
        findings.push(Finding::new(marker.span(), message).help("set transport = \"auto\" for this folder"));
    }
    let key = if patterns::excludes(exclude, name) {
        "exclude"
    } else if patterns::includes_none(include, name) {
        "include"
    } else {
        return;
    };
    let message = format!("`{key}` leaves out {}, so no run would ever be finished", printable(name));
    let help = match key {
        "include" => format!("add {} to include", printable(name)),
        _ => format!("add !{} as the last pattern of exclude, or choose another marker", printable(name)),
    };
    findings.push(Finding::new(marker.span(), message).help(help));
}
