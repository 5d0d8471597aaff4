use std::fmt;
use std::path::Path;
use std::str::FromStr;

use jiff::Zoned;

use super::units::show_size;
use crate::path::printable;

/// The template of a commit message, checked when the config is read.
///
/// `{host}`, `{folder}`, `{files}`, `{bytes}`, `{added}`, `{changed}`, `{removed}`, `{date}` and `{time}` are
/// filled in; `{{` and `}}` stand for braces. Invariant: a rendered message is never blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Host,
    Folder,
    Files,
    Bytes,
    Added,
    Changed,
    Removed,
    Date,
    Time,
}

impl Field {
    const ALL: &[(&str, Self)] = &[
        ("host", Self::Host),
        ("folder", Self::Folder),
        ("files", Self::Files),
        ("bytes", Self::Bytes),
        ("added", Self::Added),
        ("changed", Self::Changed),
        ("removed", Self::Removed),
        ("date", Self::Date),
        ("time", Self::Time),
    ];
}

/// What a commit message can tell of its batch.
#[derive(Debug, Clone)]
pub struct MessageFacts<'a> {
    /// This machine's name, not empty.
    pub host: &'a str,
    /// The watched folder.
    pub folder: &'a Path,
    /// Files that the branch did not have.
    pub added: u64,
    /// Files whose content the commit replaces.
    pub changed: u64,
    /// Files that the commit removes.
    pub removed: u64,
    /// The size of all added and changed files together.
    pub bytes: u64,
    /// When the batch was made, in the time zone that the message is to show.
    pub at: &'a Zoned,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing would be left to show.
    #[error("a commit needs a message")]
    Blank,
    /// Above [`MessageTemplate::MAX_LEN`] bytes.
    #[error("a message template has at most {} bytes", MessageTemplate::MAX_LEN)]
    TooLong,
    /// A control character other than a line feed.
    #[error("a message holds no control characters but line feeds")]
    Control,
    /// A brace without its partner.
    #[error("a brace stands alone; write {{{{ or }}}} for a brace itself")]
    Brace,
    /// No such field.
    #[error("`{{{0}}}` is not known; there are {list}", list = MessageTemplate::fields())]
    Field(String),
}

impl MessageTemplate {
    /// The template that is used when the config has none.
    pub const DEFAULT: &'static str =
        "{host}: {added} added, {changed} changed, {removed} removed in {folder} ({bytes})";

    /// The longest template, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// The message for a batch. Values are made printable; what stands in the template is kept as it is.
    pub fn render(&self, facts: &MessageFacts<'_>) -> String {
        let value = |field| match field {
            Field::Host => printable(facts.host),
            Field::Folder => printable(facts.folder),
            Field::Files => (facts.added + facts.changed + facts.removed).to_string(),
            Field::Bytes => show_size(facts.bytes),
            Field::Added => facts.added.to_string(),
            Field::Changed => facts.changed.to_string(),
            Field::Removed => facts.removed.to_string(),
            Field::Date => facts.at.strftime("%Y-%m-%d").to_string(),
            Field::Time => facts.at.strftime("%H:%M:%S%:z").to_string(),
        };
        let filled = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => value(*field),
        });
        filled.collect()
    }

    fn fields() -> String {
        Field::ALL.iter().map(|(name, _)| format!("{{{name}}}")).collect::<Vec<_>>().join(" ")
    }
}

impl Default for MessageTemplate {
    fn default() -> Self {
        Self::from_str(Self::DEFAULT).unwrap_or_else(|_| Self(vec![Part::Field(Field::Host)]))
    }
}

impl FromStr for MessageTemplate {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        if template.trim().is_empty() {
            return Err(TemplateError::Blank);
        }
        if template.len() > Self::MAX_LEN {
            return Err(TemplateError::TooLong);
        }
        if template.contains(|c: char| c.is_control() && c != '\n') {
            return Err(TemplateError::Control);
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                text.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let (name, after) =
                rest.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(TemplateError::Brace)?;
            let (_, field) = Field::ALL
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| TemplateError::Field(printable(name)))?;
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Field(*field));
            rest = after;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }
}

/// The template as the config writes it.
impl fmt::Display for MessageTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Part::Field(field) => {
                    let name =
                        Field::ALL.iter().find(|(_, known)| known == field).map_or("", |(name, _)| name);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(template: &str, folder: &str) -> String {
        let at: Zoned = "2026-11-05T14:03:22+01:00[+01:00]".parse().unwrap();
        let facts = MessageFacts {
            host: "rig-07",
            folder: Path::new(folder),
            added: 3,
            changed: 2,
            removed: 1,
            bytes: 3 << 19,
            at: &at,
        };
        template.parse::<MessageTemplate>().unwrap().render(&facts)
    }

    #[test]
    fn a_message_tells_what_the_template_asks_for() {
        let table = [
            (MessageTemplate::DEFAULT, "rig-07: 3 added, 2 changed, 1 removed in /data/camera (1.5 MiB)"),
            ("{files} on {date} at {time}", "6 on 2026-11-05 at 14:03:22+01:00"),
            ("{{{host}}} }}{{", "{rig-07} }{"),
            ("two\nlines", "two\nlines"),
        ];
        for (template, message) in table {
            assert_eq!(render(template, "/data/camera"), message);
        }
        assert_eq!(render("{folder}", "/a\nb\u{1b}"), "/a\\nb\\u{1b}");
    }

    #[test]
    fn a_template_that_cannot_work_is_told() {
        let table = [
            ("", TemplateError::Blank),
            (" \n ", TemplateError::Blank),
            ("a\tb", TemplateError::Control),
            ("{host", TemplateError::Brace),
            ("host}", TemplateError::Brace),
            ("{}", TemplateError::Field(String::new())),
            ("{Host}", TemplateError::Field("Host".to_owned())),
        ];
        for (template, error) in table {
            assert_eq!(template.parse::<MessageTemplate>(), Err(error), "{template:?}");
        }
        assert_eq!("x".repeat(4097).parse::<MessageTemplate>(), Err(TemplateError::TooLong));
        assert_eq!(
            TemplateError::Field("x".into()).to_string(),
            "`{x}` is not known; there are {host} {folder} {files} {bytes} {added} {changed} {removed} {date} {time}"
        );
        assert_eq!(
            TemplateError::Brace.to_string(),
            "a brace stands alone; write {{ or }} for a brace itself"
        );
    }

    #[test]
    fn the_default_is_the_one_that_is_documented() {
        assert_eq!(MessageTemplate::default().to_string(), MessageTemplate::DEFAULT);
    }

    proptest! {
        #[test]
        fn a_template_is_shown_as_it_was_written(template in "([a-z \n]|\\{\\{|\\}\\}|\\{host\\}|\\{time\\}){1,20}") {
            if let Ok(parsed) = template.parse::<MessageTemplate>() {
                prop_assert_eq!(parsed.to_string(), template);
            }
        }
    }
}
