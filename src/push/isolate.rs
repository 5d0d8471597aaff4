//! One batch on its way, and in smaller ones where something in it is at fault.

use std::collections::VecDeque;

use super::Pusher;
use super::deliver::Failed;
use super::pusher::Failure;
use super::verdict::Verdict;
use crate::config::{MessageTemplate, Transport};
use crate::oxen::CommitInfo;
use crate::path::RepoPath;
use crate::plan;
use crate::state::Change;

/// Groups of one batch that fail, with none that passes, after which the server is at fault and not a file.
const FAILED_GROUPS_MAX: usize = 16;

/// Delivers one batch. Where something in it is at fault, or, with `suspects_content`, may be, it goes in smaller and
/// smaller ones until that is found. A file is only set aside for a reason that nobody knows when it fails once more
/// after others of its batch went through: else it is the server that is, or was, at fault.
pub(super) async fn deliver(
    pusher: &Pusher,
    batch: Vec<Change>,
    suspects_content: bool,
) -> Result<(), Failed> {
    if batch.is_empty() {
        // Only what is open is to be settled.
        return pusher.deliver(batch).await.map(|_| ());
    }
    let marker = &pusher.options.marker;
    // Where the batch does not go as one, what finishes a run goes last.
    let mut markers = Vec::new();
    let mut groups = vec![batch];
    if pusher.options.transport == Transport::Put {
        groups = groups_for_put(pusher, groups).await?;
    }
    if suspects_content {
        let parted = |group| {
            let (last, rest) = marker.part(group);
            markers.extend(last);
            halves(rest)
        };
        groups = groups.into_iter().flat_map(parted).collect();
    }
    // Large groups come before small ones, so that what is well passes early, however many are at fault.
    let mut groups = VecDeque::from(groups);
    let (mut something_passed, mut failed_groups) = (false, 0);
    let mut suspects = Vec::<(Change, Failure)>::new();
    // Whether something passed since the suspects were last tried.
    let mut is_new_evidence = false;
    loop {
        let Some(group) = groups.pop_front().or_else(|| last_of(&mut markers)) else {
            if !is_new_evidence {
                break;
            }
            // The server may have got well after they failed.
            is_new_evidence = false;
            groups.extend(suspects.drain(..).map(|(change, _)| vec![change]));
            continue;
        };
        let (failure, changes) = match pusher.deliver(group).await {
            Ok(was_sent) => {
                something_passed |= was_sent;
                is_new_evidence |= was_sent;
                continue;
            }
            Err(Failed { failure, changes }) => (failure, changes),
        };
        failed_groups += 1;
        let gives_up = !something_passed && failed_groups >= FAILED_GROUPS_MAX;
        let suspected = failure.may_be_content && suspects_content && !gives_up;
        let outcome = match (&changes[..], failure.verdict) {
            ([change], Verdict::Split) => pusher.quarantine(change, &failure.reason).await,
            ([change], _) if suspected => {
                suspects.push((change.clone(), failure));
                continue;
            }
            (_, verdict) if verdict == Verdict::Split || suspected => {
                let (last, rest) = marker.part(changes);
                // Markers alone are parted like all else.
                let (last, rest) = if rest.is_empty() { (rest, last) } else { (last, rest) };
                markers.extend(last);
                groups.extend(halves(rest));
                continue;
            }
            _ => Err(failure),
        };
        if let Err(failure) = outcome {
            let suspects = suspects.into_iter().map(|(change, _)| change);
            let left = groups.into_iter().flatten().chain(markers);
            let changes = changes.into_iter().chain(suspects).chain(left).collect();
            return Err(Failed { failure, changes });
        }
    }
    if !something_passed && let Some((_, failure)) = suspects.first() {
        let failure = failure.clone();
        return Err(Failed { failure, changes: suspects.into_iter().map(|(change, _)| change).collect() });
    }
    while let Some((change, failure)) = suspects.pop() {
        if let Err(failure) = pusher.quarantine(&change, &failure.reason).await {
            let suspects = suspects.into_iter().map(|(change, _)| change);
            return Err(Failed { failure, changes: suspects.chain([change]).collect() });
        }
    }
    Ok(())
}

fn last_of(markers: &mut Vec<Change>) -> Option<Vec<Change>> {
    let last = std::mem::take(markers);
    (!last.is_empty()).then_some(last)
}

fn halves(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    let second = changes.split_off(changes.len() / 2);
    [changes, second].into_iter().filter(|half| !half.is_empty()).collect()
}

async fn groups_for_put(pusher: &Pusher, batch: Vec<Vec<Change>>) -> Result<Vec<Vec<Change>>, Failed> {
    let author = &pusher.target.author;
    // The message is not known yet: leave room for the longest.
    let info = CommitInfo {
        message: " ".repeat(MessageTemplate::MAX_LEN * 2),
        name: author.name.clone(),
        email: author.email.clone(),
    };
    let places = &pusher.options.places;
    let path_of =
        |change: &Change| places.path_of(change.place, &change.path).unwrap_or_else(|_| RepoPath::root());
    let (groups, rest) = plan::groups_for_put(batch.into_iter().flatten().collect(), path_of, &info);
    for change in &rest {
        let reason = "a PUT cannot carry it (its size, its name, or a removal); set transport = \"auto\"";
        if let Err(failure) = pusher.quarantine(change, reason).await {
            return Err(Failed { failure, changes: groups.into_iter().flatten().chain(rest).collect() });
        }
    }
    Ok(groups)
}
