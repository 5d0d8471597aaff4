//! A process that a test starts and that never outlives it.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::time::{Instant, sleep};

/// A process in a group of its own that ends with this one at the latest, however this ends: a shell that reads our
/// pipe kills it.
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) child: Child,
    warden: Child,
}

impl Process {
    pub(super) fn spawn(mut command: Command) -> Self {
        use std::os::unix::process::CommandExt;
        let child =
            command.stdin(Stdio::null()).process_group(0).spawn().expect("the program can be started");
        let warden = Command::new("sh")
            .args([
                "-c",
                "trap '' INT TERM; read -r _; kill -KILL \"-$0\" 2>/dev/null",
                &child.id().to_string(),
            ])
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        Self { pid: Pid::from_child(&child), child, warden }
    }

    pub(super) async fn ended(mut self, max: Duration) -> ExitStatus {
        let deadline = Instant::now() + max;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits for the end of a child. Blocks.
fn is_over(pid: Pid, max: Duration) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let max = Timespec { tv_sec: max.as_secs().cast_signed(), tv_nsec: 0 };
    poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&max)).is_ok_and(|ready| ready > 0)
}

impl Drop for Process {
    fn drop(&mut self) {
        // The warden goes first: the number of a process that was waited for may soon be another's.
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(self.pid, Signal::KILL);
            // A call into a filesystem that hangs keeps a process, and may end only when this test has.
            if is_over(self.pid, Duration::from_secs(10)) {
                let _ = self.child.wait();
            }
        }
    }
}
