use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A name as it may be shown in a log, a terminal or a page: one line, no control characters, nothing that
/// turns the text around, and every hidden byte spelled out (`\n`, `\x1b`, `\xff`, `\u{202e}`).
pub fn printable(name: impl AsRef<OsStr>) -> String {
    let mut shown = String::new();
    for chunk in name.as_ref().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                c if c.is_control() || is_invisible(c) => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A path as it can be typed into a shell, in quotes where that is needed. One that holds what [`printable`] spells out is
/// shown so, and is not to be typed.
pub fn shell_word(path: impl AsRef<OsStr>) -> String {
    let shown = printable(path);
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:=@%".contains(c);
    if !shown.is_empty() && shown.chars().all(is_plain) {
        shown
    } else {
        format!("'{}'", shown.replace('\'', r"'\''"))
    }
}

/// Whether [`printable`] shows a name as it is.
pub fn is_printable(name: &str) -> bool {
    !name.contains(|c: char| c == '\\' || c.is_control() || is_invisible(c))
}

/// Characters that draw nothing or reorder what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// A path as text that [`path_of_text`] reads back: a byte that is no UTF-8 becomes `%XX`, and so does `%` itself.
pub fn text_of_path(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

/// The path that [`text_of_path`] has written.
pub fn path_of_text(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(percent_encoding::percent_decode_str(text).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_read_back_from_its_text() {
        for bytes in [&b"/data/a b"[..], b"/100%/%41", b"/\xff\xfe%", "/größer".as_bytes()] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(path_of_text(&text_of_path(path)), path);
        }
    }

    #[test]
    fn a_command_that_is_to_be_typed_does_what_it_says() {
        assert_eq!(shell_word("/etc/oxen-sync/api-key"), "/etc/oxen-sync/api-key");
        assert_eq!(shell_word("/a b/$(id)'s"), r"'/a b/$(id)'\''s'");
    }

    #[test]
    fn hidden_bytes_are_spelled_out() {
        assert_eq!(printable("Bild 1, größer.tif"), "Bild 1, größer.tif");
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(printable(OsStr::from_bytes(b"x\xff\\")), "x\\xff\\\\");
        assert_eq!(printable("exe.\u{202e}gpj"), "exe.\\u{202e}gpj");
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_one_harmless_line_and_no_two_names_look_the_same(
            one: Vec<u8>, other: Vec<u8>, text: String,
        ) {
            for name in [OsStr::from_bytes(&one), OsStr::new(&text)] {
                let shown = printable(name);
                proptest::prop_assert!(!shown.contains(|c: char| c.is_control() || is_invisible(c)), "{shown:?}");
            }
            let shown = |bytes| printable(OsStr::from_bytes(bytes));
            proptest::prop_assert_eq!(shown(&one) == shown(&other), one == other);
            proptest::prop_assert_eq!(is_printable(&text), printable(&text) == text);
        }
    }
}
