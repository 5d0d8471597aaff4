use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use jiff::tz::TimeZone;

use super::{LocalPath, Refusal, RepoPath, printable};

/// Where the files of a folder stand on the branch: the directories before a file's own ones, and those between these
/// and its name. Both may hold parts of the file's time, so that no directory of the branch grows without end.
///
/// Invariant: with the time filled in, no two files of the folder have the same path on the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    fixed_dir: RepoPath,
    before: Vec<Segment>,
    behind: Vec<Segment>,
}

/// A [`Layout`] with the time filled in: files of one time stand there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Before the directories that the file lies in.
    pub before: RepoPath,
    /// Between these and the file's name.
    pub behind: RepoPath,
}

/// What stands between two slashes of a layout.
type Segment = Vec<Part>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Time(Field),
}

/// A part of a file's time. Each is of one length, so that it is found again in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Date,
    Hour,
    Minute,
}

impl Field {
    const ALL: &[(&str, Self)] = &[("date", Self::Date), ("hour", Self::Hour), ("minute", Self::Minute)];

    fn format(self) -> &'static str {
        match self {
            Self::Date => "%Y-%m-%d",
            Self::Hour => "%H",
            Self::Minute => "%M",
        }
    }

    /// How it looks: `0` for a digit, anything else for itself.
    fn shape(self) -> &'static str {
        match self {
            Self::Date => "0000-00-00",
            Self::Hour | Self::Minute => "00",
        }
    }

    /// What follows in `text` behind this part, if it begins `text`.
    fn strip(self, text: &str) -> Option<&str> {
        let (head, rest) = text.split_at_checked(self.shape().len())?;
        let fits =
            |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
        head.bytes().zip(self.shape().bytes()).all(fits).then_some(rest)
    }
}

/// Why a text is no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No path on a branch.
    #[error(transparent)]
    Path(#[from] Refusal),
    /// A brace that is not part of `{date}` and the like.
    #[error("a brace belongs to a part such as {{date}} and can stand for nothing else")]
    Brace,
    /// No such part.
    #[error("`{{{0}}}` is not known here; there are {1}")]
    Field(String, &'static str),
    /// Files would have to share a path.
    #[error("it must end with {{path}}, or hold {{dir}} as a directory and end with /{{name}}")]
    NoPath,
}

const FIELDS: &str = "{date} {hour} {minute}";
const PATH_FIELDS: &str = "{path}, or {dir} and {name}, and {date} {hour} {minute}";

impl Layout {
    /// All of the folder in the directory `remote_dir`, whose name may hold parts of the file's time.
    ///
    /// # Errors
    /// Why that is no directory.
    pub fn in_dir(remote_dir: &str) -> Result<Self, LayoutError> {
        let remote_dir = remote_dir.trim_matches('/');
        let before =
            if remote_dir.is_empty() { Vec::new() } else { segments(remote_dir.split('/'), FIELDS)? };
        let fixed = before.iter().take_while(|segment| is_fixed(segment));
        let fixed_dir = parse(fixed.map(|segment| fill(segment, |field| field.shape().to_owned())));
        Ok(Self { fixed_dir, before, behind: Vec::new() })
    }

    /// The same with the path below that directory written out: `{path}` stands for the file's path in the folder,
    /// `{dir}` and `{name}` for its two halves.
    ///
    /// # Errors
    /// Why that gives no path, or not each file one of its own.
    pub fn with_path(mut self, remote_path: &str) -> Result<Self, LayoutError> {
        let mut written: Vec<&str> = remote_path.split('/').collect();
        let last = written.pop();
        let (before, behind) = match (last, written.iter().position(|segment| *segment == "{dir}")) {
            (Some("{path}"), None) => (&written[..], &[][..]),
            (Some("{name}"), Some(at)) => (&written[..at], &written[at + 1..]),
            _ => {
                // What is misspelt is told first.
                segments(written.into_iter().chain(last), PATH_FIELDS)?;
                return Err(LayoutError::NoPath);
            }
        };
        self.before.extend(segments(before.iter().copied(), PATH_FIELDS)?);
        self.behind = segments(behind.iter().copied(), PATH_FIELDS)?;
        if self
            .before
            .iter()
            .chain(&self.behind)
            .flatten()
            .any(|part| matches!(part, Part::Text(text) if is_own(text)))
        {
            return Err(LayoutError::NoPath);
        }
        Ok(self)
    }

    /// Whether more is written than a directory: where a file stands is not plain from that.
    pub fn is_written_out(&self) -> bool {
        self.has_time() || self.before.len() > self.fixed_dir.segments() || !self.behind.is_empty()
    }

    /// Whether a file's time has a part in it.
    pub fn has_time(&self) -> bool {
        self.before.iter().chain(&self.behind).any(|segment| !is_fixed(segment))
    }

    /// The directory of the branch that holds all that the folder can put there, whatever is written of the path below:
    /// the beginning of `remote_dir` that no time is part of.
    pub fn fixed_dir(&self) -> &RepoPath {
        &self.fixed_dir
    }

    /// The place for a file that was changed at `mtime_ns`, in nanoseconds since the epoch, by the clocks of `zone`.
    pub fn place_at(&self, mtime_ns: i64, zone: &TimeZone) -> Place {
        // Every such time can be told.
        let time =
            jiff::Timestamp::from_nanosecond(i128::from(mtime_ns)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let time = time.to_zoned(zone.clone());
        let told = |segment| fill(segment, |field| time.strftime(field.format()).to_string());
        Place { before: parse(self.before.iter().map(told)), behind: parse(self.behind.iter().map(told)) }
    }

    /// Which file stands at `path`, and at which place that is, if this layout can have put one there.
    pub fn file_at(&self, path: &RepoPath) -> Option<(Place, LocalPath)> {
        let segments: Vec<&str> = path.as_str().split('/').collect();
        let (before, rest) = segments.split_at_checked(self.before.len())?;
        let (_, dirs) = rest.split_last()?;
        let behind = dirs.get(dirs.len().checked_sub(self.behind.len())?..)?;
        let fits = |(text, segment): (&&str, &Segment)| matches(segment, text);
        if !before.iter().zip(&self.before).all(fits) || !behind.iter().zip(&self.behind).all(fits) {
            return None;
        }
        let place = Place { before: parse(before.iter()), behind: parse(behind.iter()) };
        let local = place.file_at(path)?;
        Some((place, local))
    }
}

/// As the config writes it, with `remote_dir` and the path below in one.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |segment: &Segment| {
            fill(segment, |field| {
                let name = Field::ALL.iter().find(|(_, known)| *known == field).map_or("", |(name, _)| name);
                format!("{{{name}}}")
            })
        };
        let own: &[&str] = if self.behind.is_empty() { &["{path}"] } else { &["{dir}"] };
        let before = self.before.iter().map(written).chain(own.iter().map(|own| (*own).to_owned()));
        let name = (!self.behind.is_empty()).then(|| "{name}".to_owned());
        let all: Vec<_> = before.chain(self.behind.iter().map(written)).chain(name).collect();
        f.write_str(&printable(all.join("/")))
    }
}

/// At the root, under the path that the file has in the folder.
impl Default for Place {
    fn default() -> Self {
        Self::in_dir(RepoPath::root())
    }
}

impl Place {
    /// Directly in `dir`, under the path that the file has in the folder.
    pub fn in_dir(dir: RepoPath) -> Self {
        Self { before: dir, behind: RepoPath::root() }
    }

    /// Where `file` stands.
    ///
    /// # Errors
    /// Why the file cannot stand there under its own name.
    pub fn path_of(&self, file: &LocalPath) -> Result<RepoPath, Refusal> {
        if self.behind.is_root() {
            return RepoPath::for_file(&self.before, file);
        }
        let plain = RepoPath::for_file(&RepoPath::root(), file)?;
        let parts = [self.before.as_str(), plain.dir(), self.behind.as_str(), plain.name()];
        RepoPath::parse(&join(parts.into_iter()))
    }

    /// Which file stands at `path`, if one of this place can.
    pub fn file_at(&self, path: &RepoPath) -> Option<LocalPath> {
        let below = strip_dir(path.as_str(), self.before.as_str())?;
        let (dirs, name) = below.rsplit_once('/').unwrap_or(("", below));
        let behind = self.behind.as_str();
        let dir = match dirs.strip_suffix(behind)? {
            "" => "",
            dir if behind.is_empty() => dir,
            dir => dir.strip_suffix('/')?,
        };
        let local = LocalPath::new(OsStr::from_bytes(join([dir, name].into_iter()).as_bytes()).as_ref())?;
        (self.path_of(&local).ok()? == *path).then_some(local)
    }
}

fn strip_dir<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    if dir.is_empty() { Some(path) } else { path.strip_prefix(dir)?.strip_prefix('/') }
}

/// What a file's path in the folder is written as; it comes once, and not as part of a name.
fn is_own(text: &str) -> bool {
    ["{path}", "{dir}", "{name}"].iter().any(|own| text.contains(own))
}

fn segments<'a>(
    written: impl Iterator<Item = &'a str>,
    known: &'static str,
) -> Result<Vec<Segment>, LayoutError> {
    written.map(|text| segment(text, known)).collect()
}

fn segment(written: &str, known: &'static str) -> Result<Segment, LayoutError> {
    let (mut parts, mut rest) = (Vec::new(), written);
    while let Some(at) = rest.find(['{', '}']) {
        let (text, braced) = rest.split_at(at);
        let (name, after) =
            braced.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(LayoutError::Brace)?;
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(match Field::ALL.iter().find(|(field, _)| *field == name) {
            Some((_, field)) => Part::Time(*field),
            None if known == PATH_FIELDS && is_own(&format!("{{{name}}}")) => {
                Part::Text(format!("{{{name}}}"))
            }
            None => return Err(LayoutError::Field(printable(name), known)),
        });
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    // One path that it can give shows whether all of them can stand on a branch.
    let example = fill(&parts, |field| field.shape().to_owned());
    if example.is_empty() || RepoPath::parse(&example)?.as_str() != example {
        return Err(Refusal::NotPlain.into());
    }
    Ok(parts)
}

fn is_fixed(segment: &Segment) -> bool {
    segment.iter().all(|part| matches!(part, Part::Text(_)))
}

fn fill(segment: &Segment, time: impl Fn(Field) -> String) -> String {
    let filled = segment.iter().map(|part| match part {
        Part::Text(text) => text.clone(),
        Part::Time(field) => time(*field),
    });
    filled.collect()
}

fn matches(segment: &Segment, text: &str) -> bool {
    let rest = segment.iter().try_fold(text, |text, part| match part {
        Part::Text(own) => text.strip_prefix(own.as_str()),
        Part::Time(field) => field.strip(text),
    });
    rest == Some("")
}

fn join<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// A path of segments that were checked, or came from one.
fn parse(segments: impl Iterator<Item = impl AsRef<str>>) -> RepoPath {
    let segments: Vec<_> = segments.collect();
    RepoPath::parse(&join(segments.iter().map(AsRef::as_ref))).unwrap_or_else(|_| RepoPath::root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn layout(dir: &str, path: &str) -> Layout {
        Layout::in_dir(dir).unwrap().with_path(path).unwrap()
    }

    fn local(path: &str) -> LocalPath {
        LocalPath::new(Path::new(path)).unwrap()
    }

    /// 2026-11-05, 14:03:22 in UTC.
    const MTIME_NS: i64 = 1_793_887_402_000_000_000;

    fn path(layout: &Layout, file: &str) -> String {
        layout.place_at(MTIME_NS, &TimeZone::UTC).path_of(&local(file)).unwrap().to_string()
    }

    #[test]
    fn a_file_stands_where_the_layout_says() {
        let table = [
            ("", "{path}", "a/b.png", "a/b.png"),
            ("cam", "{path}", "b.png", "cam/b.png"),
            ("cam/{date}", "{path}", "a/b.png", "cam/2026-11-05/a/b.png"),
            ("/cam/", "{date}/{hour}{minute}/{path}", "b.png", "cam/2026-11-05/1403/b.png"),
            ("cam", "{dir}/day {date}/h{hour}/{name}", "a/x/b.png", "cam/a/x/day 2026-11-05/h14/b.png"),
            ("", "raw/{dir}/{hour}/{name}", "b.png", "raw/14/b.png"),
        ];
        for (dir, below, file, expected) in table {
            let layout = layout(dir, below);
            assert_eq!(path(&layout, file), expected, "{dir} {below}");
            let (place, found) = layout.file_at(&RepoPath::parse(expected).unwrap()).unwrap();
            assert_eq!((place, found), (layout.place_at(MTIME_NS, &TimeZone::UTC), local(file)));
        }
    }

    #[test]
    fn the_time_is_that_of_the_clocks_here() {
        let layout = layout("{date}/{hour}", "{path}");
        let zone = TimeZone::get("America/Los_Angeles").unwrap();
        let in_zone = |mtime_ns| layout.place_at(mtime_ns, &zone).before.to_string();
        assert_eq!(in_zone(MTIME_NS - 14 * 3_600_000_000_000), "2026-11-04/16");
        for extreme in [i64::MIN, 0, i64::MAX] {
            let place = layout.place_at(extreme, &TimeZone::UTC);
            let path = place.path_of(&local("a")).unwrap();
            assert_eq!(layout.file_at(&path), Some((place, local("a"))), "{extreme}");
        }
    }

    #[test]
    fn what_gives_no_path_or_files_one_path_is_refused() {
        let dirs = [
            ("a/{hour", LayoutError::Brace),
            ("a}b", LayoutError::Brace),
            ("{path}", LayoutError::Field("path".into(), FIELDS)),
            ("{Date}", LayoutError::Field("Date".into(), FIELDS)),
            ("a//b", Refusal::NotPlain.into()),
            ("a/..", Refusal::NotPlain.into()),
            ("a\\b", Refusal::Backslash.into()),
            (".oxen/{date}", Refusal::Reserved.into()),
        ];
        for (dir, error) in dirs {
            assert_eq!(Layout::in_dir(dir), Err(error), "{dir:?}");
        }
        let paths = [
            ("", Refusal::NotPlain.into()),
            ("{date}", LayoutError::NoPath),
            ("{date}/{name}", LayoutError::NoPath),
            ("{name}/{dir}", LayoutError::NoPath),
            ("{dir}/{dir}/{name}", LayoutError::NoPath),
            ("{path}/{date}", LayoutError::NoPath),
            ("{path}/{path}", LayoutError::NoPath),
            ("{date}-{path}", LayoutError::NoPath),
            ("{dir}/x{dir}/{name}", LayoutError::NoPath),
            ("{date}//{path}", Refusal::NotPlain.into()),
            ("/{path}", Refusal::NotPlain.into()),
            ("{day}/{path}", LayoutError::Field("day".into(), PATH_FIELDS)),
        ];
        for (path, error) in paths {
            assert_eq!(Layout::in_dir("a").unwrap().with_path(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn all_of_a_folder_lies_in_one_directory_that_no_time_changes() {
        for (dir, below, fixed) in [
            ("", "{path}", ""),
            ("a/b", "{path}", "a/b"),
            ("a/{date}/b", "{path}", "a"),
            ("a", "raw/{hour}/{path}", "a"),
            ("a", "{dir}/{hour}/{name}", "a"),
        ] {
            let layout = layout(dir, below);
            assert_eq!(layout.fixed_dir().as_str(), fixed);
            assert_eq!(layout.is_written_out(), below != "{path}" || dir.contains('{'));
            assert_eq!(
                layout.has_time(),
                layout.to_string().contains("{date}") || layout.to_string().contains("{hour}")
            );
        }
        assert_eq!(layout("a/{date}", "{dir}/x{hour}/{name}").to_string(), "a/{date}/{dir}/x{hour}/{name}");
        assert_eq!(layout("a", "{dir}/{name}"), layout("a", "{path}"));
    }

    #[test]
    fn only_what_the_layout_can_have_put_there_is_a_file_of_it() {
        let layout = layout("cam", "{dir}/{date}/{name}");
        for strange in
            ["cam", "cam/a", "cam/a/b", "cam/2026-11-5/b", "other/2026-11-05/b", "cam/2026-11-05/a/b"]
        {
            assert_eq!(layout.file_at(&RepoPath::parse(strange).unwrap()), None, "{strange}");
        }
    }

    proptest! {
        #[test]
        fn no_two_files_share_a_path_and_each_is_found_again(
            (dir, below) in (
                prop::sample::select(&["", "a", "{date}", "a/x{hour}"][..]),
                prop::sample::select(&["{path}", "{minute}/{path}", "{dir}/{date}/{name}", "b/{dir}/{hour}/c/{name}"][..]),
            ),
            files in prop::collection::btree_map("([ab]|2026-11-05|14|x14)(/([ab]|2026-11-05|14|c)){0,4}", 0..3_i64, 1..8),
        ) {
            let layout = layout(dir, below);
            let mut taken = std::collections::BTreeMap::new();
            for (file, days) in &files {
                let place = layout.place_at(MTIME_NS + days * 86_400_000_000_000, &TimeZone::UTC);
                let path = place.path_of(&local(file)).unwrap();
                prop_assert!(path.starts_with(layout.fixed_dir()));
                prop_assert_eq!(place.file_at(&path), Some(local(file)));
                prop_assert_eq!(layout.file_at(&path), Some((place, local(file))));
                prop_assert_eq!(taken.insert(path, file), None);
            }
        }
    }
}
