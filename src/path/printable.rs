use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

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

/// Characters that draw nothing or reorder what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_bytes_are_spelled_out() {
        assert_eq!(printable("Bild 1, größer.tif"), "Bild 1, größer.tif");
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(printable(OsStr::from_bytes(b"x\xff\\")), "x\\xff\\\\");
        assert_eq!(printable("exe.\u{202e}gpj"), "exe.\\u{202e}gpj");
    }
}
