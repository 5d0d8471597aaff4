use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::mask::mask;
use crate::path::printable;

/// Everything that is wrong with a config file, in the file's order; never empty.
///
/// `Display` and [`Problems::render`] show each problem with its line and a caret. What may be a secret is
/// replaced by `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    /// The file's text without secrets.
    text: String,
    list: Vec<Problem>,
}

/// One thing that is wrong with a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    line: usize,
    column: usize,
    finding: Finding,
}

/// A problem as the reader notes it: a range of bytes, not yet a line and a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    at: Range<usize>,
    message: String,
    label: String,
    other: Option<(Range<usize>, String)>,
    help: Option<String>,
    /// Whether it rests on something that is not in the file, as a missing key does.
    of_absence: bool,
}

impl Finding {
    pub(super) fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), label: String::new(), other: None, help: None, of_absence: false }
    }

    /// What stands beside the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// A second place that belongs to the problem.
    pub(super) fn other(mut self, at: Range<usize>, label: impl Into<String>) -> Self {
        self.other = Some((at, label.into()));
        self
    }

    /// What to do about it.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Marks what may be untrue if a part of the file could not be read: a missing key, a default in force, a
    /// comparison of two places.
    pub(super) fn of_absence(mut self) -> Self {
        self.of_absence = true;
        self
    }

    pub(super) fn is_of_absence(&self) -> bool {
        self.of_absence
    }

    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }
}

impl Problem {
    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.finding.message
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.finding.help.as_deref()
    }
}

impl Problems {
    /// `findings` must not be empty.
    pub(super) fn new(file: &Path, text: &str, mut findings: Vec<Finding>) -> Self {
        let text = mask(text);
        for finding in &mut findings {
            finding.at = clamp(&text, &finding.at);
            if let Some((at, _)) = &mut finding.other {
                *at = clamp(&text, at);
            }
        }
        findings.sort_by_key(|finding| (finding.at.start, finding.at.end));
        findings.dedup();
        let mut list = Vec::with_capacity(findings.len());
        let (mut line, mut counted) = (1, 0);
        for finding in findings {
            let start = finding.at.start;
            line += text[counted..start].matches('\n').count();
            counted = start;
            let column = text[line_start(&text, start)..start].chars().count() + 1;
            list.push(Problem { line, column, finding });
        }
        Self { file: file.to_owned(), text, list }
    }

    /// The file that was refused.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The problems, in the file's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// All problems as text of several lines, with or without a terminal's colours.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<_> = self.list.iter().map(|problem| self.render_one(&renderer, problem)).collect();
        shown.join("\n\n")
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let Finding { at, message, label, other, help, .. } = &problem.finding;
        let second = other.as_ref().map_or(at, |(at, _)| at);
        // Only the lines concerned: the renderer's work grows with the text it is given.
        let start = line_start(&self.text, at.start.min(second.start));
        let last = at.end.max(second.end);
        let end = self.text[last..].find('\n').map_or(self.text.len(), |newline| last + newline);
        let shift = |range: &Range<usize>| range.start - start..range.end - start;
        let first_line = problem.line - self.text[start..at.start].matches('\n').count();
        let mut caret = AnnotationKind::Primary.span(shift(at));
        if !label.is_empty() {
            caret = caret.label(label);
        }
        let mut snippet = Snippet::source(&self.text[start..end])
            .line_start(first_line)
            .path(printable(&self.file))
            .annotation(caret);
        if let Some((at, label)) = other {
            snippet = snippet.annotation(AnnotationKind::Context.span(shift(at)).label(label));
        }
        let mut group = Group::with_title(Level::ERROR.primary_title(message)).element(snippet);
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The nearest range that lies in `text`, on boundaries of characters.
fn clamp(text: &str, range: &Range<usize>) -> Range<usize> {
    let boundary = |from: usize| (0..=from.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    let start = boundary(range.start).unwrap_or(0);
    let end = boundary(range.end).unwrap_or(0);
    start..end.max(start)
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

impl<'p> IntoIterator for &'p Problems {
    type Item = &'p Problem;
    type IntoIter = std::slice::Iter<'p, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
