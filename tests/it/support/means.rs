//! What a test needs of the machine besides files: rights, mounts, limits. Where one of them is not to be had, the test
//! is left out, and that is said.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Says that the test is left out, also where the output of tests that pass is not shown.
pub(crate) fn leave_out(what: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "left out: {test}: {what}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a tool to its end.
///
/// # Errors
/// What it said, where it is not there or does not end with 0.
pub(crate) fn tool<A: AsRef<OsStr>>(args: &[A]) -> Result<(), String> {
    let (program, rest) = args.split_first().expect("a tool has a name");
    let ended = Command::new(program).args(rest).stdin(Stdio::null()).output();
    match ended {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned())
        }
        Err(error) => Err(format!("{}: {error}", program.as_ref().display())),
    }
}

/// The command before a program that is to be bound by the modes of files, as root is not; `None` where it cannot be.
pub(crate) fn bound_by_modes() -> Option<Vec<&'static str>> {
    if !is_root() {
        return Some(Vec::new());
    }
    let wrapper = vec!["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let tried: Vec<&str> = wrapper.iter().copied().chain(["true"]).collect();
    match tool(&tried) {
        Ok(()) => Some(wrapper),
        Err(why) => {
            leave_out(&format!("a root without its rights cannot be had: {why}"));
            None
        }
    }
}

/// The command before a program for which names are those in `hosts` alone; `None` where no mount namespace can be had.
pub(crate) fn with_names_of(hosts: &Path) -> Option<Vec<String>> {
    let switch = hosts.with_extension("nsswitch");
    fs::write(&switch, "hosts: files\n").expect("it is ours");
    let script =
        "mount --bind \"$0\" /etc/hosts && mount --bind \"$1\" /etc/nsswitch.conf && shift && exec \"$@\"";
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script];
    let mut wrapper: Vec<String> = words.map(str::to_owned).to_vec();
    wrapper.extend([hosts, switch.as_path()].map(|file| file.to_str().expect("it is UTF-8").to_owned()));
    let tried: Vec<&str> = wrapper.iter().map(String::as_str).chain(["true"]).collect();
    match tool(&tried) {
        Ok(()) => Some(wrapper),
        Err(why) => {
            leave_out(&format!("names of its own cannot be had: {why}"));
            None
        }
    }
}

/// The limits of inotify that a program is to have, in a user namespace of its own.
pub(crate) struct Inotify {
    pub(crate) watches: u32,
    pub(crate) instances: u32,
}

impl Inotify {
    /// The command before a program that is to have these limits; `None` where no user namespace can be had.
    pub(crate) fn wrapper(&self) -> Option<Vec<String>> {
        let set = format!("{}; exec \"$@\"", self.script());
        let wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", &set, "sh"].map(str::to_owned);
        let tried: Vec<String> = wrapper.iter().cloned().chain(["true".to_owned()]).collect();
        match tool(&tried) {
            Ok(()) => Some(wrapper.into()),
            Err(why) => {
                leave_out(&format!("a user namespace with limits of its own cannot be had: {why}"));
                None
            }
        }
    }

    /// Sets the limits in the namespace of a process that was started so.
    ///
    /// # Panics
    /// Where that cannot be done.
    pub(crate) fn set(&self, pid: rustix::process::Pid) {
        let pid = pid.as_raw_nonzero().to_string();
        let set =
            ["nsenter", "--user", "--preserve-credentials", "--target", &pid, "sh", "-c", &self.script()];
        tool(&set).expect("whoever made a namespace may set its limits");
    }

    fn script(&self) -> String {
        let Self { watches, instances } = self;
        format!(
            "echo {watches} >/proc/sys/user/max_inotify_watches && echo {instances} >/proc/sys/user/max_inotify_instances"
        )
    }
}

/// Events that the kernel keeps for one watcher, for all that begin while this lives.
pub(crate) struct EventQueue {
    before: String,
    _alone: MutexGuard<'static, ()>,
}

static EVENT_QUEUE: Mutex<()> = Mutex::new(());

impl EventQueue {
    const FILE: &'static str = "/proc/sys/fs/inotify/max_queued_events";

    /// How many it is where nobody has changed that.
    pub(crate) const LEN: usize = 16_384;

    /// Shortens it; `None` where that is not allowed.
    pub(crate) fn shorten(len: usize) -> Option<Self> {
        let alone = EVENT_QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fs::read_to_string(Self::FILE).expect("Linux says");
        match fs::write(Self::FILE, len.to_string()) {
            Ok(()) => Some(Self { before, _alone: alone }),
            Err(error) => {
                leave_out(&format!("the kernel's queue of events cannot be made short: {error}"));
                None
            }
        }
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, &self.before);
    }
}

/// Something mounted, until this goes.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    /// An empty filesystem in memory of so many KiB; `None` where nothing can be mounted.
    pub(crate) fn tmpfs(at: &Path, kib: u32) -> Option<Self> {
        Self::new(
            &[
                "-t".into(),
                "tmpfs".into(),
                "-o".into(),
                format!("size={kib}k,mode=0700").into(),
                "tmpfs".into(),
            ],
            at,
        )
    }

    /// A directory or file at another place; `None` where nothing can be mounted.
    pub(crate) fn bind(from: &Path, at: &Path) -> Option<Self> {
        Self::new(&["--bind".into(), from.into()], at)
    }

    /// Lets nobody write to it any more; says whether that could be done.
    pub(crate) fn make_read_only(&self) -> bool {
        let remount = ["mount", "-o", "remount,bind,ro"].map(OsStr::new);
        match tool(&[&remount[..], &[self.at.as_os_str()]].concat()) {
            Ok(()) => true,
            Err(why) => {
                leave_out(&format!("this cannot be made read-only: {why}"));
                false
            }
        }
    }

    /// The filesystem in a file; `None` where that cannot be mounted.
    pub(crate) fn image(file: &Path, at: &Path) -> Option<Self> {
        Self::new(&["-o".into(), "loop".into(), file.into()], at)
    }

    /// A directory through FUSE; `None` where there is no bindfs or no FUSE.
    pub(crate) fn fuse(from: &Path, at: &Path) -> Option<Self> {
        Self::try_with(&[OsString::from("bindfs"), from.into(), at.into()], at)
    }

    fn new(what: &[OsString], at: &Path) -> Option<Self> {
        let args: Vec<_> =
            std::iter::once("mount".into()).chain(what.iter().cloned()).chain([at.into()]).collect();
        Self::try_with(&args, at)
    }

    fn try_with(args: &[OsString], at: &Path) -> Option<Self> {
        match tool(args) {
            Ok(()) => Some(Self { at: at.to_owned() }),
            Err(why) => {
                leave_out(&format!("this cannot be mounted: {why}"));
                None
            }
        }
    }

    /// Unmounts it as one does by hand; says whether that could be done.
    pub(crate) fn unmount(&self) -> bool {
        tool(&[OsStr::new("umount"), self.at.as_os_str()]).is_ok()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // From its place at once, from its users when they let go of it.
        let at = self.at.as_os_str();
        let _ = tool(&[OsStr::new("umount"), "--lazy".as_ref(), at])
            .or_else(|_| tool(&[OsStr::new("fusermount3"), "-uz".as_ref(), at]))
            .or_else(|_| tool(&[OsStr::new("fusermount"), "-uz".as_ref(), at]));
    }
}
