//! Just enough of Rust's syntax to measure it: what is code and what is comment or text, where
//! functions begin and end, which lines are tests.

/// A source file with comments and the insides of strings replaced by spaces, line for line.
pub(crate) struct Source {
    code: Vec<char>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Line of the word `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from that to the closing brace.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        let mut code = text.clone();
        let mut at = 0;
        while at < text.len() {
            let (end, blank) = piece(&text, at);
            for (offset, character) in code[at..end].iter_mut().enumerate() {
                let inside = at + offset;
                if blank.contains(&inside) && *character != '\n' {
                    *character = ' ';
                }
            }
            at = end;
        }
        Self { code }
    }

    /// The code of each line.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.code.iter().collect::<String>().lines().map(str::to_owned).collect()
    }

    /// For each line: is it part of a `#[cfg(test)] mod`?
    pub(crate) fn test_lines(&self) -> Vec<bool> {
        let mut marks = vec![false; self.lines().len()];
        let code: String = self.code.iter().collect();
        for (byte, attribute) in code.match_indices("#[cfg(test)]") {
            let after = code[..byte + attribute.len()].chars().count();
            let rest: String = self.code[after..].iter().collect();
            let item = rest.trim_start();
            if !item.starts_with("mod ") && !item.starts_with("pub mod ") {
                continue;
            }
            let first = line_at(&self.code, after);
            if let Some(end) = self.body_end(after) {
                let last = line_at(&self.code, end);
                marks.iter_mut().take(last).skip(first - 1).for_each(|mark| *mark = true);
            }
        }
        marks
    }

    /// Every function that has a body, outer ones before those inside them.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in 0..self.code.len() {
            if !self.is_word(at, "fn") {
                continue;
            }
            let name: String = self.code[at + 2..]
                .iter()
                .skip_while(|c| c.is_whitespace())
                .take_while(|c| is_word_character(**c))
                .collect();
            if name.is_empty() {
                continue; // a function pointer's type
            }
            if let Some(end) = self.body_end(at) {
                let line = line_at(&self.code, at);
                let lines = line_at(&self.code, end) - line + 1;
                found.push(Function { name, line, lines });
            }
        }
        found
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        let before = at.checked_sub(1).and_then(|previous| self.code.get(previous));
        let after = self.code.get(at + word.len());
        self.code[at..].iter().copied().take(word.len()).eq(word.chars())
            && before.is_none_or(|c| !is_word_character(*c))
            && after.is_some_and(|c| c.is_whitespace())
    }

    /// Where the body that opens next after `from` closes; none when a semicolon ends the item.
    fn body_end(&self, from: usize) -> Option<usize> {
        let mut parentheses = 0_usize;
        let mut braces = 0_usize;
        for (at, character) in self.code.iter().enumerate().skip(from) {
            match character {
                '(' | '[' if braces == 0 => parentheses += 1,
                ')' | ']' if braces == 0 => parentheses = parentheses.saturating_sub(1),
                ';' if braces == 0 && parentheses == 0 => return None,
                '{' if parentheses == 0 || braces > 0 => braces += 1,
                '}' if braces == 1 => return Some(at),
                '}' if braces > 1 => braces -= 1,
                _ => {}
            }
        }
        None
    }
}

fn is_word_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_at(code: &[char], at: usize) -> usize {
    1 + code[..at].iter().filter(|c| **c == '\n').count()
}

/// The piece of syntax that begins at `at`: where it ends, and which part of it is not code.
fn piece(text: &[char], at: usize) -> (usize, std::ops::Range<usize>) {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => {
            let end = find(text, at, |rest| rest[0] == '\n');
            (end, at..end)
        }
        '/' if next == Some('*') => {
            let end = block_comment_end(text, at);
            (end, at..end)
        }
        '"' => {
            let end = quoted_end(text, at + 1, '"');
            (end, at + 1..end.saturating_sub(1))
        }
        'r' if !at.checked_sub(1).is_some_and(|b| is_word_character(text[b]) && text[b] != 'b') => {
            raw_string(text, at).unwrap_or((at + 1, at..at))
        }
        // A character, not a lifetime: 'x' or '\...'.
        '\'' if next == Some('\\') || text.get(at + 2) == Some(&'\'') => {
            let end = quoted_end(text, at + 1, '\'');
            (end, at + 1..end.saturating_sub(1))
        }
        _ => (at + 1, at..at),
    }
}

fn raw_string(text: &[char], at: usize) -> Option<(usize, std::ops::Range<usize>)> {
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if text.get(open) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let inside_end = find(text, open + 1, |rest| rest.starts_with(&close));
    Some(((inside_end + close.len()).min(text.len()), open + 1..inside_end))
}

fn find(text: &[char], from: usize, matches: impl Fn(&[char]) -> bool) -> usize {
    (from..text.len()).find(|at| matches(&text[*at..])).unwrap_or(text.len())
}

fn quoted_end(text: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn block_comment_end(text: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < text.len() {
        if text[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let source = Source::new(concat!(
            "let a = \"fn x() { // \\\" }\"; // fn y() {}\n",
            "/* fn z() /* nested */ { */ let b = 'c'; let d: &'static str = r#\"}\"{\"#;\n",
            "let e = '\\''; let f = b\"{\";",
        ));
        let lines = source.lines();
        assert!(source.functions().is_empty());
        assert!(!lines[0].contains('{') && lines[0].starts_with("let a = \""), "{lines:?}");
        assert!(lines[1].contains("let b = ' '") && lines[1].contains("&'static str"), "{lines:?}");
        assert!(!lines[1].contains('{') && !lines[2].contains('{'), "{lines:?}");
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let source = Source::new(
            "trait T { fn none(&self) -> [u8; 4]; }\n\nfn one() {}\n\npub async fn two(\n    f: fn(u8),\n) {\n    if x { y() }\n}\n",
        );
        let named = |name: &str, line, lines| Function { name: name.into(), line, lines };
        assert_eq!(source.functions(), vec![named("one", 3, 1), named("two", 5, 5)]);
    }

    #[test]
    fn test_modules_are_marked_and_nothing_else() {
        let text = "fn a() {}\n#[cfg(test)]\nuse x;\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let marks = Source::new(text).test_lines();
        assert_eq!(marks, [false, false, false, true, true, true, true, false]);
    }

    #[test]
    fn unfinished_text_does_not_panic() {
        for text in ["\"", "r#\"", "/*", "'\\", "fn", "fn a(", "fn a() {", "r", "#[cfg(test)]"] {
            let source = Source::new(text);
            assert!(source.functions().is_empty(), "{text}");
            assert_eq!(source.test_lines().iter().filter(|mark| **mark).count(), 0, "{text}");
        }
    }
}
