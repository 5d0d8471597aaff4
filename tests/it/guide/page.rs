//! A page of the guide, taken apart into text and commands.

/// A page.
#[derive(Clone)]
pub(super) struct Page(pub(super) Vec<Piece>);

/// A piece of it.
#[derive(Clone)]
pub(super) enum Piece {
    /// Text that is only read.
    Text(String),
    /// A command of a block of them, and what it prints.
    Command { typed: String, printed: String },
}

const BEGIN: &str = "```console\n";
const END: &str = "```\n";

impl Page {
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut inside = false;
        let mut prose = String::new();
        for line in text.split_inclusive('\n') {
            match (inside, line) {
                (false, BEGIN) => {
                    prose.push_str(line);
                    pieces.push(Piece::Text(std::mem::take(&mut prose)));
                    inside = true;
                }
                (true, END) => {
                    prose.push_str(line);
                    inside = false;
                }
                (true, line) if line.starts_with("$ ") => {
                    let typed = line[2..].trim_end().to_owned();
                    pieces.push(Piece::Command { typed, printed: String::new() });
                }
                (true, line) => match pieces.last_mut() {
                    Some(Piece::Command { printed, .. }) => printed.push_str(line),
                    _ => panic!("a block of the guide begins with something else than a command: {line}"),
                },
                (false, line) => prose.push_str(line),
            }
        }
        pieces.push(Piece::Text(prose));
        Self(pieces)
    }

    pub(super) fn to_text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Command { typed, printed } => format!("$ {typed}\n{printed}"),
        };
        self.0.iter().map(piece).collect()
    }
}

#[test]
fn a_page_is_put_together_as_it_was_taken_apart() {
    let text = "# A\n\n```console\n$ one\nprinted\n\nmore\n$ two\n```\n\nb\n```toml\n$ no command\n```\n";
    let page = Page::parse(text);
    assert_eq!(page.to_text(), text);
    assert_eq!(page.0.iter().filter(|piece| matches!(piece, Piece::Command { .. })).count(), 2);
}
