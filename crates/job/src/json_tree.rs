//! JSON with places: the tree of a text with the byte offsets of its keys and values, so that a message can name line
//! and column. serde_json decides what is valid; this only finds where things are in text that serde_json accepts.

/// One value and where it stands, as byte offsets into the text.
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a value is. Objects keep every entry, duplicates too: (key, offset of the key's quote, value).
pub(crate) enum Kind {
    Null,
    Flag,
    Number,
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, usize, Node)>),
}

impl Kind {
    /// With its article, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag => "a boolean",
            Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Text that isn't JSON.
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// Parses `text`. Depth is bounded by serde_json (128).
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.starts_with('\u{feff}') {
        let message = "the file starts with a byte order mark; save it as UTF-8 without one".to_string();
        return Err(SyntaxError { line: 1, column: 1, message });
    }
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        return Err(syntax_error(text, &error));
    }
    let mut scanner = Scanner { text, at: 0 };
    scanner.value().ok_or_else(|| SyntaxError { line: 1, column: 1, message: "not valid JSON".to_string() })
}

fn syntax_error(text: &str, error: &serde_json::Error) -> SyntaxError {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let whole = error.to_string();
    let message = whole.strip_suffix(&place).unwrap_or(&whole);
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    // serde_json counts bytes up to and with the offending one; people count characters.
    let before = line.as_bytes().get(..error.column().saturating_sub(1)).unwrap_or(line.as_bytes());
    let column = String::from_utf8_lossy(before).chars().count() + 1;
    SyntaxError { line: error.line().max(1), column, message: format!("not valid JSON: {message}") }
}

/// Line and column (in characters) of a byte offset, both from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn value(&mut self) -> Option<Node> {
        let first = self.peek()?;
        let start = self.at;
        let kind = match first {
            b'{' => self.object()?,
            b'[' => self.array()?,
            b'"' => Kind::Text(self.string()?),
            _ => {
                self.scalar();
                match first {
                    b'n' => Kind::Null,
                    b't' | b'f' => Kind::Flag,
                    _ => Kind::Number,
                }
            }
        };
        Some(Node { kind, start, end: self.at })
    }

    fn object(&mut self) -> Option<Kind> {
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            match self.peek()? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let key_start = self.at;
                    let key = self.string()?;
                    self.peek()?;
                    self.at += 1; // the colon
                    entries.push((key, key_start, self.value()?));
                }
            }
        }
        self.at += 1;
        Some(Kind::Object(entries))
    }

    fn array(&mut self) -> Option<Kind> {
        self.at += 1;
        let mut nodes = Vec::new();
        loop {
            match self.peek()? {
                b']' => break,
                b',' => self.at += 1,
                _ => nodes.push(self.value()?),
            }
        }
        self.at += 1;
        Some(Kind::Array(nodes))
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.text.as_bytes().get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }

    fn scalar(&mut self) {
        let bytes = self.text.as_bytes();
        while !matches!(bytes.get(self.at), None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters() {
        let text = "{\n  \"ä\\\"\": [1, {\"b\": null}],\r\n\t\"c\":\"x\"}";
        let Ok(tree) = parse(text) else { panic!("valid") };
        let Kind::Object(entries) = &tree.kind else { panic!("object") };
        let places: Vec<_> = entries.iter().map(|(key, start, _)| (key.as_str(), position(text, *start))).collect();
        assert_eq!(places, [("ä\"", (2, 3)), ("c", (3, 2))]);
        let Kind::Array(items) = &entries[0].2.kind else { panic!("array") };
        assert_eq!(position(text, items[1].start), (2, 14));
        assert_eq!(&text[items[0].start..items[0].end], "1");
        assert_eq!(&text[entries[1].2.start..entries[1].2.end], "\"x\"");
    }

    #[test]
    fn text_that_is_no_json_is_placed() {
        let error = |text| match parse(text) {
            Err(SyntaxError { line, column, message }) => format!("{line}:{column}: {message}"),
            Ok(_) => panic!("{text} is valid"),
        };
        assert_eq!(error("{\n \"ä\": }"), "2:7: not valid JSON: expected value");
        assert_eq!(error("{\"a\":1}}"), "1:8: not valid JSON: trailing characters");
        assert_eq!(error(""), "1:1: not valid JSON: EOF while parsing a value");
        assert_eq!(error("{\"a\":1,}"), "1:8: not valid JSON: trailing comma");
        assert_eq!(error("\u{feff}{}"), "1:1: the file starts with a byte order mark; save it as UTF-8 without one");
        assert!(error(&"[".repeat(100_000)).contains("recursion limit exceeded"));
    }

    #[test]
    fn no_cut_of_a_document_panics() {
        let text = r#" {"a\u00e9\\": [true, false, null, -1.5e3, "\ud83d\ude00", {}, []], "": {"x": "ü"}} "#;
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let whole = end >= text.trim_end().len();
            assert_eq!(parse(&text[..end]).is_ok(), whole, "cut at {end}");
        }
    }
}
