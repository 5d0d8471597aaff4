//! `after_push`: what its keys mean, and where they would do harm.

use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::clash::Placed;
use super::problem::Finding;
use super::raw::Settings;
use super::validate::days;
use super::{AfterPush, OnDelete, TakeOff, check};
use crate::path::printable;

const MIN_AGE: Duration = days(7);

/// The words of `after_push.do`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Keep,
    Delete,
    Move,
}

const WORDS: &[(&str, Word)] = &[("keep", Word::Keep), ("delete", Word::Delete), ("move", Word::Move)];

/// What a folder's files come to; `None` where that is to move and nothing usable says where to.
pub(super) fn after_push(
    raw: &Settings,
    home: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<AfterPush> {
    let raw = &raw.after_push;
    let word = check::one_of("after_push.do", raw.action.as_ref(), Word::Keep, WORDS, findings);
    let min_age = raw.min_age.as_ref();
    let bounds = Duration::ZERO..=days(3650);
    let min_age = check::duration("after_push.min_age", min_age, MIN_AGE, &bounds, findings);
    let move_to =
        raw.move_to.as_ref().and_then(|to| check::local_path("after_push.move_to", to, home, findings));
    let action = match word {
        Word::Keep => TakeOff::Keep,
        Word::Delete => TakeOff::Delete,
        Word::Move => TakeOff::Move(move_to?),
    };
    Some(AfterPush { action, min_age })
}

/// Notes what only all of a folder's settings together can show: a move without a place to move to, and a branch from
/// which everything would be removed that is taken off here.
pub(super) fn note_mirror(raw: &Settings, on_delete: OnDelete, findings: &mut Vec<Finding>) {
    let Some(action) = raw.after_push.action.as_ref() else { return };
    let word = action.get_ref();
    if word == "move" && raw.after_push.move_to.is_none() {
        let message = "`after_push.do` is \"move\", and nothing says where to";
        let help = "write after_push.move_to = \"/data/pushed\": a directory on the folder's own file system, outside of \
                    all watched folders";
        findings.push(Finding::new(action.span(), message).help(help).of_absence());
    }
    if on_delete == OnDelete::Mirror && matches!(word.as_str(), "delete" | "move") {
        let message = format!(
            "`after_push.do` is \"{word}\" and `on_delete` is \"mirror\": what is taken off here would be removed from the \
             branch, and be nowhere"
        );
        let mut finding = Finding::new(action.span(), message)
            .help("write on_delete = \"keep\", so that the branch keeps it, or after_push.do = \"keep\"");
        if let Some(on_delete) = &raw.on_delete {
            finding = finding.other(on_delete.span(), "this removes it there");
        }
        findings.push(finding.of_absence());
    }
}

/// Notes files that would be taken off under the eyes of another folder, which may not have pushed them, and a place to
/// move to from which they would be pushed once more.
pub(super) fn note_shared(folders: &[Placed<'_>], findings: &mut Vec<Finding>) {
    for (index, placed) in folders.iter().enumerate() {
        let folder = &placed.folder;
        let action = &folder.after_push.action;
        if *action == TakeOff::Keep {
            continue;
        }
        let others = folders.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other);
        for other in others.filter(|other| overlap(&folder.path, &other.folder.path)) {
            let message =
                "`after_push` would take files off that another folder watches too, and may not have pushed";
            let finding = Finding::new(at(placed), message)
                .other(other.path_at(), "the other folder")
                .help("give each folder files of its own, or write after_push.do = \"keep\"");
            findings.push(finding.of_absence());
        }
        let TakeOff::Move(to) = action else { continue };
        for other in folders.iter().filter(|other| overlap(to, &other.folder.path)) {
            let message = format!(
                "`after_push.move_to` ({}) and a watched folder lie one inside the other",
                printable(to)
            );
            let finding = Finding::new(move_at(placed), message)
                .other(other.path_at(), "this folder")
                .help("choose a directory outside of all watched folders, on the same file system");
            findings.push(finding.of_absence());
        }
    }
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Where to point at when a folder's `after_push` is in question: to what it says itself, else to the folder.
fn at(placed: &Placed<'_>) -> std::ops::Range<usize> {
    placed.raw.settings.after_push.action.as_ref().map_or_else(|| placed.path_at(), Spanned::span)
}

fn move_at(placed: &Placed<'_>) -> std::ops::Range<usize> {
    placed.raw.settings.after_push.move_to.as_ref().map_or_else(|| at(placed), Spanned::span)
}
