//! Checks of single values.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use toml::Spanned;

use super::patterns;
use super::problem::Finding;
use super::schema::nearest;
use super::units::{show_duration, show_size};

/// `value` or `default`, noted if it lies outside `bounds`.
pub(super) fn within<T: Copy + PartialOrd>(
    name: &str,
    value: Option<&Spanned<T>>,
    default: T,
    bounds: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
    findings: &mut Vec<Finding>,
) -> T {
    let Some(value) = value else { return default };
    if !bounds.contains(value.get_ref()) {
        let message =
            format!("`{name}` must lie between {} and {}", show(*bounds.start()), show(*bounds.end()));
        findings.push(Finding::new(value.span(), message));
    }
    *value.get_ref()
}

pub(super) fn duration(
    name: &str,
    value: Option<&Spanned<Duration>>,
    default: Duration,
    bounds: &RangeInclusive<Duration>,
    findings: &mut Vec<Finding>,
) -> Duration {
    within(name, value, default, bounds, |duration| format!("\"{}\"", show_duration(duration)), findings)
}

pub(super) fn size(
    name: &str,
    value: Option<&Spanned<u64>>,
    default: u64,
    bounds: &RangeInclusive<u64>,
    findings: &mut Vec<Finding>,
) -> u64 {
    within(name, value, default, bounds, show_size, findings)
}

/// Notes `max_wait` if it is shorter than `quiet`: the one that is not written has its default.
pub(super) fn quiet_before_max_wait(
    table: &str,
    quiet: (Option<&Spanned<Duration>>, Duration),
    max_wait: (Option<&Spanned<Duration>>, Duration),
    findings: &mut Vec<Finding>,
) {
    if quiet.1 <= max_wait.1 {
        return;
    }
    let (quiet_shown, max_wait_shown) = (show_duration(quiet.1), show_duration(max_wait.1));
    let message = format!("`{table}.max_wait` is shorter than `{table}.quiet`");
    let help = format!("`{table}.max_wait` must be at least \"{quiet_shown}\"");
    let finding = match (max_wait.0, quiet.0) {
        (Some(max_wait), Some(quiet)) => Finding::new(max_wait.span(), message)
            .other(quiet.span(), format!("`{table}.quiet` is {quiet_shown}")),
        (Some(max_wait), None) => Finding::new(max_wait.span(), message)
            .label(format!("`{table}.quiet` is {quiet_shown} by default")),
        (None, Some(quiet)) => Finding::new(quiet.span(), message)
            .label(format!("`{table}.max_wait` is {max_wait_shown} by default")),
        (None, None) => return,
    };
    findings.push(finding.help(help).of_absence());
}

/// The value as a `T` that parses itself.
pub(super) fn parsed<T>(name: &str, value: &Spanned<String>, findings: &mut Vec<Finding>) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    match value.get_ref().parse() {
        Ok(parsed) => Some(parsed),
        Err(why) => {
            findings.push(Finding::new(value.span(), format!("`{name}` cannot be used: {why}")));
            None
        }
    }
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(
    name: &str,
    value: Option<&Spanned<String>>,
    default: T,
    words: &[(&str, T)],
    findings: &mut Vec<Finding>,
) -> T {
    let Some(value) = value else { return default };
    if let Some((_, found)) = words.iter().find(|(word, _)| word == value.get_ref()) {
        return *found;
    }
    let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let message = format!("`{name}` must be one of \"{}\"", known.join("\", \""));
    let finding = Finding::new(value.span(), message);
    findings.push(match nearest(value.get_ref(), &known) {
        Some(near) => finding.help(format!("did you mean \"{near}\"?")),
        None => finding,
    });
    default
}

/// One line that is not blank.
pub(super) fn line(name: &str, value: &Spanned<String>, findings: &mut Vec<Finding>) -> String {
    let text = value.get_ref().trim();
    if text.is_empty() {
        findings.push(Finding::new(value.span(), format!("`{name}` is empty")));
    } else if text.contains(char::is_control) {
        findings.push(Finding::new(
            value.span(),
            format!("`{name}` must be one line without control characters"),
        ));
    }
    text.to_owned()
}

/// An absolute path of this machine; `~/` is the home directory. Whether anything is there is not asked.
pub(super) fn local_path(
    name: &str,
    value: &Spanned<String>,
    home: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<PathBuf> {
    let mut fault = |message: String, help: &str| {
        findings.push(Finding::new(value.span(), message).help(help));
        None
    };
    let text = value.get_ref();
    if text.contains('\0') {
        return fault(format!("`{name}` holds a NUL character"), "no path can hold one");
    }
    let path = match (text.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        (Some(rest), None) if rest.is_empty() || rest.starts_with('/') => {
            return fault(
                format!("`{name}` begins with ~, but HOME is not set"),
                "write the whole path from /",
            );
        }
        _ => PathBuf::from(text),
    };
    if !path.is_absolute() {
        let help =
            "write the whole path from /, or begin with ~/ for the home directory of the service's user";
        return fault(format!("`{name}` is not an absolute path"), help);
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return fault(format!("`{name}` holds `..`"), "write the path without it");
    }
    Some(path.components().collect())
}

/// The URL of a server. No message repeats any part of it, as it may hold a password.
pub(super) fn url(name: &str, value: &Spanned<String>, findings: &mut Vec<Finding>) -> Option<Url> {
    const HELP: &str = "write it as \"https://oxen.lab.example\" or \"http://localhost:3000\"";
    let mut fault = |message: String, help: &str| {
        findings.push(Finding::new(value.span(), message).help(help));
        None
    };
    let mut url = match Url::parse(value.get_ref()) {
        Ok(url) => url,
        Err(why) => return fault(format!("`{name}` is not a URL: {}", lowercase(&why.to_string())), HELP),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return fault(format!("`{name}` must begin with http:// or https://"), HELP);
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help =
            "remove what stands before the @; an API key goes into a file of its own, named by `key_file`";
        return fault(format!("`{name}` holds a user name or a password"), help);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return fault(
            format!("`{name}` has a part after `?` or `#`"),
            "remove it; only the address is needed",
        );
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

fn lowercase(message: &str) -> String {
    match message.split_at_checked(1) {
        Some((first, rest)) if !rest.starts_with(char::is_uppercase) => first.to_lowercase() + rest,
        _ => message.to_owned(),
    }
}

/// Patterns in gitignore's syntax.
pub(super) fn patterns(
    name: &str,
    value: Option<&Spanned<Vec<Spanned<String>>>>,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let mut usable = Vec::new();
    for pattern in value.into_iter().flat_map(Spanned::get_ref) {
        match patterns::fault(pattern.get_ref()) {
            None => usable.push(pattern.get_ref().clone()),
            Some(why) => findings.push(
                Finding::new(pattern.span(), format!("a pattern of `{name}` cannot be used: {why}"))
                    .help("patterns are written as in .gitignore; a backslash takes a character literally"),
            ),
        }
    }
    usable
}
