//! The second stage: what the values mean, with the defaults filled in. The defaults and the bounds stand here
//! and in `servers`, and nowhere else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::after_push::{after_push, note_mirror, note_shared};
use super::clash::{Placed, note_clashes, note_state_dir};
use super::marker::{marker, note_marker};
use super::problem::Finding;
use super::raw::{Raw, RawAuthor, RawControl, RawFolder, RawPage, Settings};
use super::servers::{default_server, named_server, servers};
use super::window::Span;
use super::{
    AfterPush, Author, BatchLimits, Config, Control, DEFAULT_EXCLUDES, DeleteBrake, Env, Folder,
    MessageTemplate, OnDelete, Page, Server, Settle, Transport, UploadWindow, check,
};
use crate::oxen::{BranchName, RepoName};
use crate::path::{Layout, LayoutError, Refusal, RepoPath};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const EIB: u64 = 1 << 60;

pub(super) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

pub(super) const fn days(days: u64) -> Duration {
    minutes(24 * 60 * days)
}

const BRANCH: &str = "main";
const CONTROL_SOCKET: &str = "/run/oxen-sync/control.sock";
const SETTLE: Settle = Settle { quiet: Duration::from_secs(2), max_wait: minutes(5) };
const BATCH: BatchLimits = BatchLimits {
    quiet: Duration::from_secs(1),
    max_wait: Duration::from_secs(30),
    max_files: 10_000,
    max_bytes: 4 * GIB,
};
const DELETE_BRAKE: DeleteBrake = DeleteBrake { share_percent: 50, files: 10 };
const PRIORITY: u8 = 5;
const RESCAN_INTERVAL: Duration = minutes(60);

/// The config, or `None` where `findings` say why not.
pub(super) fn validate(raw: &Raw, file: &Path, env: &Env, findings: &mut Vec<Finding>) -> Option<Config> {
    let home = env.home.as_deref();
    let control = control(&raw.control, env.home.as_deref(), findings);
    let page = page(&raw.page, home, findings);
    let author = raw.author.as_ref().and_then(|author| author_of(author, findings));
    let servers = servers(raw, home, findings);
    // Once by themselves, so that a problem in [defaults] is noted even where every folder overrides it.
    check_settings(&raw.defaults, home, findings);
    let mut folders = Vec::new();
    for folder in &raw.folders {
        let settings = folder.settings.over(&raw.defaults);
        let server = match &settings.server {
            Some(name) => named_server(name, &servers, findings),
            None => default_server(folder, raw, &servers, findings),
        };
        if let Some(built) = build_folder(folder, &settings, server, home, findings) {
            folders.push(Placed { folder: built, raw: folder });
        }
    }
    if raw.folders.is_empty() && findings.is_empty() {
        findings.push(
            Finding::new(0..0, "there is no folder to watch")
                .help("add one with `oxen-sync add`")
                .of_absence(),
        );
    }
    note_clashes(&folders, findings);
    note_shared(&folders, findings);
    let state_dir = state_dir(raw.state_dir.as_ref(), env, findings);
    if let Some(state_dir) = &state_dir {
        note_state_dir(state_dir, raw.state_dir.as_ref(), &folders, findings);
    }
    Some(Config {
        file: file.to_owned(),
        state_dir: state_dir?,
        control,
        page,
        author: author?,
        folders: folders.into_iter().map(|placed| placed.folder).collect(),
    })
}

/// The group's socket; none without a group.
fn control(raw: &RawControl, home: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Control> {
    let socket = match &raw.socket {
        Some(socket) => check::local_path("control.socket", socket, home, findings),
        None => Some(PathBuf::from(CONTROL_SOCKET)),
    };
    let Some(group) = &raw.group else {
        if let Some(socket) = &raw.socket {
            findings
                .push(Finding::new(socket.span(), "`control.socket` is for a group, and none is named").help(
                "write group = \"NAME\" above it; the service's owner has a socket in the state directory",
            ));
        }
        return None;
    };
    let group = check::line("control.group", group, findings);
    Some(Control { group, socket: socket? })
}

/// The page that is asked for; none without an address.
fn page(raw: &RawPage, home: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Page> {
    const ADDRESS: &str = "write an IP address and a port: \"127.0.0.1:7710\"";
    let listen = raw.listen.as_ref()?;
    let Ok(address) = listen.get_ref().parse::<SocketAddr>() else {
        findings.push(Finding::new(listen.span(), "`page.listen` is not an address").help(ADDRESS));
        return None;
    };
    if address.port() == 0 {
        findings.push(Finding::new(listen.span(), "`page.listen` names no port").help(ADDRESS));
    }
    let key_file = match &raw.key_file {
        Some(file) => Some(check::local_path("page.key_file", file, home, findings)?),
        None => None,
    };
    let page = Page { listen: address, key_file };
    let may_leave = raw.allow_network.as_ref().is_some_and(|allowed| *allowed.get_ref());
    if !may_leave && !page.is_of_this_machine() {
        let message =
            "everyone on the network could read there which files there are and what becomes of them";
        findings.push(Finding::new(listen.span(), message).help(
            "listen on \"127.0.0.1:7710\", or, where everyone on the network is trusted, write allow_network = true \
             below it",
        ));
    }
    Some(page)
}

fn author_of(raw: &RawAuthor, findings: &mut Vec<Finding>) -> Option<Author> {
    let name = raw.name.as_ref().map(|name| check::line("author.name", name, findings));
    let email = raw.email.as_ref().map(|email| {
        let line = check::line("author.email", email, findings);
        let address = line.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if !line.is_empty() && (!address || line.contains(char::is_whitespace)) {
            findings.push(
                Finding::new(email.span(), "`author.email` is not a mail address")
                    .help("any address will do, also one that receives no mail: \"rig-07@lab.example\""),
            );
        }
        line
    });
    Some(Author { name: name?, email: email? })
}

fn build_folder(
    raw: &RawFolder,
    settings: &Settings,
    server: Option<Arc<Server>>,
    home: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<Folder> {
    let path = raw.path.as_ref().and_then(|value| {
        let path = check::local_path("path", value, home, findings)?;
        if path == Path::new("/") {
            findings.push(
                Finding::new(value.span(), "the whole file system cannot be watched")
                    .help("name the directory that holds the data"),
            );
            return None;
        }
        Some(path)
    });
    let repo = raw.repo.as_ref().and_then(|repo| check::parsed::<RepoName>("repo", repo, findings));
    let common = check_settings(settings, home, findings);
    note_mirror(settings, common.on_delete, findings);
    note_marker(settings, &common.exclude, &common.include, findings);
    Some(Folder {
        path: path?,
        server: server?,
        repo: repo?,
        branch: common.branch?,
        create_branch_from: common.create_branch_from,
        create_repo: settings.create_repo.as_ref().is_none_or(|on| *on.get_ref()),
        description: common.description,
        remote_dir: common.remote_dir?,
        layout: common.layout?,
        include: common.include,
        exclude: common.exclude,
        max_file_size: common.max_file_size,
        settle: common.settle,
        batch: common.batch,
        marker: common.marker,
        rescan_interval: common.rescan_interval,
        priority: common.priority,
        upload_window: common.upload_window,
        transport: common.transport,
        on_delete: common.on_delete,
        delete_brake: common.delete_brake,
        after_push: common.after_push?,
        message: common.message?,
    })
}

/// Settings after their check. What has a problem is `None` or has some usable value: the config is refused
/// anyway, but nothing may be derived from a value that is not in the file.
struct Checked {
    branch: Option<BranchName>,
    create_branch_from: Option<BranchName>,
    description: Option<String>,
    remote_dir: Option<RepoPath>,
    layout: Option<Layout>,
    include: Vec<String>,
    exclude: Vec<String>,
    max_file_size: Option<u64>,
    settle: Settle,
    batch: BatchLimits,
    marker: Option<String>,
    rescan_interval: Duration,
    priority: u8,
    upload_window: UploadWindow,
    transport: Transport,
    on_delete: OnDelete,
    delete_brake: DeleteBrake,
    /// `None` too where the directory is to come from elsewhere than `[defaults]`.
    after_push: Option<AfterPush>,
    message: Option<MessageTemplate>,
}

fn check_settings(raw: &Settings, home: Option<&Path>, findings: &mut Vec<Finding>) -> Checked {
    let branch = match &raw.branch {
        Some(branch) => check::parsed::<BranchName>("branch", branch, findings),
        None => BRANCH.parse().ok(),
    };
    let create_branch_from = raw.create_branch_from.as_ref().and_then(|from| {
        let from_branch = check::parsed::<BranchName>("create_branch_from", from, findings)?;
        if Some(&from_branch) == branch.as_ref() {
            findings.push(
                Finding::new(from.span(), "`create_branch_from` is the branch itself")
                    .help("name the branch that a new one is to begin from, or remove the key"),
            );
        }
        Some(from_branch)
    });
    let use_default_excludes = raw.default_excludes.as_ref().is_none_or(|on| *on.get_ref());
    let mut exclude: Vec<String> = if use_default_excludes {
        DEFAULT_EXCLUDES.iter().map(|pattern| (*pattern).to_owned()).collect()
    } else {
        Vec::new()
    };
    exclude.extend(check::patterns("exclude", raw.exclude.as_ref(), findings));
    let max_file_size = raw.max_file_size.as_ref();
    let (remote_dir, layout) = layout(raw, findings).unzip();
    Checked {
        branch,
        create_branch_from,
        description: raw.description.as_ref().map(|text| check::line("description", text, findings)),
        remote_dir,
        layout,
        include: check::patterns("include", raw.include.as_ref(), findings),
        exclude,
        max_file_size: max_file_size
            .map(|size| check::size("max_file_size", Some(size), EIB, &(1..=EIB), findings)),
        settle: settle(raw, findings),
        batch: batch(raw, findings),
        marker: marker(raw, findings),
        rescan_interval: check::duration(
            "rescan_interval",
            raw.rescan_interval.as_ref(),
            RESCAN_INTERVAL,
            &(Duration::from_secs(1)..=days(30)),
            findings,
        ),
        priority: {
            let show = |number: u64| number.to_string();
            let priority =
                check::within("priority", raw.priority.as_ref(), PRIORITY.into(), &(1..=9), show, findings);
            u8::try_from(priority).unwrap_or(PRIORITY)
        },
        upload_window: raw
            .upload_window
            .iter()
            .flat_map(Spanned::get_ref)
            .filter_map(|span| check::parsed::<Span>("upload_window", span, findings))
            .collect(),
        transport: check::one_of(
            "transport",
            raw.transport.as_ref(),
            Transport::Auto,
            Transport::ALL,
            findings,
        ),
        on_delete: check::one_of(
            "on_delete",
            raw.on_delete.as_ref(),
            OnDelete::Keep,
            OnDelete::ALL,
            findings,
        ),
        delete_brake: delete_brake(raw, findings),
        after_push: after_push(raw, home, findings),
        message: match &raw.message {
            Some(message) => check::parsed("message", message, findings),
            None => Some(MessageTemplate::default()),
        },
    }
}

fn settle(raw: &Settings, findings: &mut Vec<Finding>) -> Settle {
    let raw = &raw.settle;
    let before = findings.len();
    let settle = Settle {
        quiet: check::duration(
            "settle.quiet",
            raw.quiet.as_ref(),
            SETTLE.quiet,
            &(Duration::ZERO..=days(1)),
            findings,
        ),
        max_wait: check::duration(
            "settle.max_wait",
            raw.max_wait.as_ref(),
            SETTLE.max_wait,
            &(Duration::from_millis(100)..=days(7)),
            findings,
        ),
    };
    if findings.len() == before {
        let quiet = (raw.quiet.as_ref(), settle.quiet);
        check::quiet_before_max_wait("settle", quiet, (raw.max_wait.as_ref(), settle.max_wait), findings);
    }
    settle
}

fn batch(raw: &Settings, findings: &mut Vec<Finding>) -> BatchLimits {
    let raw = &raw.batch;
    let before = findings.len();
    let (quiet, max_wait) = (raw.quiet.as_ref(), raw.max_wait.as_ref());
    let bounds = Duration::ZERO..=days(1);
    let mut batch = BatchLimits {
        quiet: check::duration("batch.quiet", quiet, BATCH.quiet, &bounds, findings),
        max_wait: check::duration("batch.max_wait", max_wait, BATCH.max_wait, &bounds, findings),
        max_bytes: check::size(
            "batch.max_bytes",
            raw.max_bytes.as_ref(),
            BATCH.max_bytes,
            &(MIB..=EIB),
            findings,
        ),
        ..BATCH
    };
    if let Some(max_files) = &raw.max_files {
        let show = |number: u64| number.to_string();
        let files = check::within("batch.max_files", Some(max_files), 1, &(1..=100_000), show, findings);
        batch.max_files = usize::try_from(files).unwrap_or(BATCH.max_files);
    }
    if findings.len() == before {
        check::quiet_before_max_wait("batch", (quiet, batch.quiet), (max_wait, batch.max_wait), findings);
    }
    batch
}

fn delete_brake(raw: &Settings, findings: &mut Vec<Finding>) -> DeleteBrake {
    let raw = &raw.delete_brake;
    let (share, files) = (raw.share.as_ref(), raw.files.as_ref());
    let percent = |number: u64| format!("\"{number}%\"");
    let count = |number: u64| number.to_string();
    let (share_name, files_name) = ("delete_brake.share", "delete_brake.files");
    DeleteBrake {
        share_percent: check::within(
            share_name,
            share,
            DELETE_BRAKE.share_percent,
            &(0..=100),
            percent,
            findings,
        ),
        files: check::within(files_name, files, DELETE_BRAKE.files, &(1..=1_000_000_000), count, findings),
    }
}

/// `remote_dir` as it is written, and what it makes with `remote_path`.
fn layout(raw: &Settings, findings: &mut Vec<Finding>) -> Option<(RepoPath, Layout)> {
    let written = raw.remote_dir.as_ref().map_or("", |dir| dir.get_ref());
    let in_dir = Layout::in_dir(written).and_then(|layout| Ok((RepoPath::parse(written)?, layout)));
    let (dir, layout) = noted("remote_dir", raw.remote_dir.as_ref(), in_dir, findings)?;
    let Some(path) = &raw.remote_path else { return Some((dir, layout)) };
    let layout = noted("remote_path", Some(path), layout.with_path(path.get_ref()), findings)?;
    Some((dir, layout))
}

fn noted<T>(
    key: &str,
    value: Option<&Spanned<String>>,
    parsed: Result<T, LayoutError>,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    let error = match parsed {
        Ok(parsed) => return Some(parsed),
        Err(error) => error,
    };
    let (why, help) = match &error {
        LayoutError::Path(Refusal::Backslash) => {
            (format!("`{key}` holds a backslash"), "directories are separated by `/`".to_owned())
        }
        LayoutError::Path(Refusal::Reserved) => {
            (format!("`{key}` lies in .oxen, which Oxen keeps for itself"), "choose another".to_owned())
        }
        LayoutError::Path(Refusal::NotPlain | Refusal::NotUtf8) if key == "remote_dir" => (
            format!("`{key}` is not a plain path"),
            "write it like \"rig/7\", without empty parts, `.` and `..`; \"\" is the repository's root"
                .to_owned(),
        ),
        LayoutError::Path(Refusal::NotPlain | Refusal::NotUtf8) => (
            format!("`{key}` is not a plain path"),
            "write it like \"{date}/{path}\", without empty parts, `.` and `..`".to_owned(),
        ),
        error => (
            format!("`{key}` does not say where files stand"),
            format!(
                "{error}; an example is \"{}\"",
                if key == "remote_dir" { "camera/{date}" } else { "{dir}/{date}/{name}" }
            ),
        ),
    };
    findings.push(Finding::new(value.map_or(0..0, Spanned::span), why).help(help));
    None
}

fn state_dir(raw: Option<&Spanned<String>>, env: &Env, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    if let Some(value) = raw {
        return check::local_path("state_dir", value, env.home.as_deref(), findings);
    }
    let found = env.default_state_dir();
    if found.is_none() {
        findings.push(
            Finding::new(0..0, "there is no place for the service's state")
                .help("set `state_dir`, or one of the variables STATE_DIRECTORY, XDG_STATE_HOME and HOME")
                .of_absence(),
        );
    }
    found
}
