//! Questions on a terminal, and their answers from flags where nobody is asked.

use std::io::{BufRead, IsTerminal, Write};

/// Why no config is written; nothing was.
#[derive(Debug)]
pub(super) struct GivenUp(pub(super) String);

/// One question.
#[derive(Debug)]
pub(super) struct Question {
    /// The flag that answers it.
    pub(super) flag: &'static str,
    /// The question.
    pub(super) words: &'static str,
    /// What an empty answer means.
    pub(super) default: Option<String>,
}

/// Who asks.
pub(super) struct Asker {
    input: Box<dyn BufRead>,
    /// Whether somebody answers.
    is_interactive: bool,
}

impl Asker {
    /// Asks on the terminal of the process. With `yes`, or without a terminal, nobody is asked: flags and defaults answer.
    pub(super) fn of_process(yes: bool) -> Self {
        let stdin = std::io::stdin();
        let is_interactive = !yes && stdin.is_terminal();
        Self { input: Box::new(std::io::BufReader::new(stdin)), is_interactive }
    }

    /// Says something to whoever is asked.
    pub(super) fn say(&self, words: &str) {
        if self.is_interactive {
            eprint!("{words}");
        }
    }

    /// The answer: what the flag says, or the person, or the default.
    pub(super) fn ask(&mut self, question: &Question, given: Option<String>) -> Result<String, GivenUp> {
        if let Some(given) = given {
            return Ok(given);
        }
        if !self.is_interactive {
            let missing = || GivenUp(format!("{} is needed: {}", question.flag, question.words));
            return question.default.clone().ok_or_else(missing);
        }
        loop {
            let default = question.default.as_ref().map(|text| format!(" [{text}]")).unwrap_or_default();
            let answer = self.line(&format!("{}{default}: ", question.words))?;
            match (answer.is_empty(), &question.default) {
                (false, _) => return Ok(answer),
                (true, Some(default)) => return Ok(default.clone()),
                (true, None) => {}
            }
        }
    }

    /// Whether it is so; where nobody is asked, as `default` says.
    pub(super) fn confirm(&mut self, words: &str, flag: &str, default: bool) -> Result<bool, GivenUp> {
        if !self.is_interactive {
            return if default { Ok(true) } else { Err(GivenUp(format!("{words} Say so with {flag}"))) };
        }
        let answer = self.line(&format!("{words} [{}] ", if default { "Y/n" } else { "y/N" }))?;
        Ok(match answer.to_lowercase().as_str() {
            "" => default,
            answer => answer.starts_with('y'),
        })
    }

    /// Says what is wrong with an answer, so that it is asked for again. Where nobody is asked, that is the end.
    pub(super) fn problem(&self, problem: &str, what_to_do: &str) -> Result<(), GivenUp> {
        if self.is_interactive {
            eprintln!("  {problem}");
            return Ok(());
        }
        Err(GivenUp(format!("{problem}; {what_to_do}")))
    }

    fn line(&mut self, prompt: &str) -> Result<String, GivenUp> {
        eprint!("{prompt}");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(0) => Err(GivenUp("given up; nothing is written".to_owned())),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(GivenUp(format!("the answer cannot be read: {error}"))),
        }
    }
}
