use super::{Findings, Level};

/// Whether the kernel gives the service's user enough to watch `dirs` directories in `folders` folders.
pub(super) fn check_limits(dirs: u64, folders: u64, findings: &mut Findings) {
    check_limit("inotify watches", "max_user_watches", dirs, 1_048_576, findings);
    // One more for the config.
    check_limit("inotify instances", "max_user_instances", folders + 1, 1_024, findings);
}

/// `advised` is what a larger limit is to be at least.
fn check_limit(what: &str, name: &str, needed: u64, advised: u64, findings: &mut Findings) {
    let file = format!("/proc/sys/fs/inotify/{name}");
    let limit = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match limit {
        Some(limit) if needed <= limit => {
            findings.add(Level::Ok, what, format!("{needed} are needed and {limit} allowed"));
        }
        Some(limit) => findings.add(
            Level::Failure,
            what,
            format!(
                "{needed} are needed and only {limit} allowed; raise it with: sysctl fs.inotify.{name}={}",
                (needed * 2).max(advised)
            ),
        ),
        None => findings.add(Level::Warning, what, format!("{file} cannot be read")),
    }
}
