//! What each request can carry so that the server stores it under the very same name.

use crate::path::is_reserved_name;

/// The longest name a PUT takes, in bytes: oxen-server 0.65.2 writes the file under its name with 15 bytes more
/// first, and answers 500 where its file system refuses that.
const PUT_NAME_LEN_MAX: usize = 240;

/// Whether a PUT stores a file under exactly this name.
///
/// oxen-server 0.65.2 deletes from a name in a PUT the characters `/ ? < > \ : * | "`, the control characters
/// and a name made of dots alone, and says nothing. No other request does so.
pub fn fits_put_name(name: &str) -> bool {
    let kept = |c: char| !c.is_control() && !"/?<>\\:*|\"".contains(c);
    !name.is_empty()
        && name.len() <= PUT_NAME_LEN_MAX
        && name.chars().all(kept)
        && !name.chars().all(|c| c == '.')
        && !is_reserved_name(name)
}

/// Whether a multipart form can carry this path as a file name.
///
/// The name stands in a header, where HTTP knows no control characters but tab. The server reads no
/// `filename*=`. An upload in parts names its path in JSON and carries every name.
pub fn fits_multipart_path(path: &str) -> bool {
    path.bytes().all(|b| b == b'\t' || !b.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_carries_only_names_that_the_server_leaves_alone() {
        for name in ["a b", "a#%+;&='~^[]{}()!$,@`", "größe.tif", "ne\u{301}", " x ", "x.", "...x", "🦀"]
        {
            assert!(fits_put_name(name), "{name:?}");
        }
        let bad = ["", ".", "...", "12:30", "a?", "a/b", "a\\b", "\"a\"", "<a>", "a|b", "a*", "\t", "\u{85}"];
        for name in bad.into_iter().chain(["\u{7f}", "a\nb", ".oxen", ".OXEN."]) {
            assert!(!fits_put_name(name), "{name:?}");
        }
        assert!(fits_put_name(&"n".repeat(240)));
        assert!(!fits_put_name(&"n".repeat(241)));
        assert!(!fits_put_name(&"é".repeat(121)));
    }

    #[test]
    fn a_form_carries_no_control_characters_but_tab() {
        for path in ["a/b c", "tab\there", "\"quoted\"", "a:b?c", "\u{85}", "größe"] {
            assert!(fits_multipart_path(path), "{path:?}");
        }
        for path in ["a\nb", "a\rb", "\u{1b}", "\u{7f}", "\0"] {
            assert!(!fits_multipart_path(path), "{path:?}");
        }
    }
}
