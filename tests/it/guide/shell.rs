//! A shell that a reader of the guide types into: one for a page, so that variables and jobs last.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::stage::Stage;

/// The longest that one command may print nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// Printed behind each command.
const MARK: &str = "--- the command has ended ---";

pub(super) struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Shell {
    pub(super) fn start(stage: &Stage) -> Self {
        let mut command = Command::new("bash");
        command.args(["--norc", "--noprofile"]).env_clear().envs(stage.env()).current_dir(stage.home());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a bash");
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = String::new();
                if output.read_line(&mut line).unwrap_or(0) == 0 || sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut shell = Self { child, input, lines };
        shell.run("exec 2>&1");
        shell
    }

    /// Types a command, and returns what it prints.
    pub(super) fn run(&mut self, typed: &str) -> String {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{typed}\necho '{MARK}'\n").as_bytes()).unwrap();
        let mut printed = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("{typed} does not end:\n{printed}"));
            if let Some(last) = line.strip_suffix(&format!("{MARK}\n")) {
                printed.push_str(last);
                return printed;
            }
            printed.push_str(&line);
        }
    }
}

/// Ends it, with what still runs in it.
impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(mut input) = self.input.take() {
            let _ = input.write_all(b"kill $(jobs -p) 2>/dev/null; wait\n");
        }
        let _ = self.child.wait();
    }
}
