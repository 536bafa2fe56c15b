//! The sources as tokens: without comments, without the inside of strings, without what only tests compile.

use std::path::Path;

/// As much of Rust's grammar as a path needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word or a number.
    Word(String),
    /// The content of a string, as written.
    Text(String),
    /// Any other character.
    Sign(char),
}

impl Token {
    /// Whether it is this word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }
}

/// Every file below src: its name from there, with slashes, and its content.
pub fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    found.sort();
    found
}

fn read(dir: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).expect("src can be read").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            found.push((name, std::fs::read_to_string(entry.path()).expect("a source is text")));
        }
    }
}

/// Splits a source into tokens.
pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&here) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        at = match here {
            '/' if next == Some('/') => skip_while(&chars, at, |c| c != '\n'),
            '/' if next == Some('*') => block_comment(&chars, at),
            '"' => string(&chars, at, &mut found),
            '\'' => quote(&chars, at),
            _ if is_word(here) => word(&chars, at, &mut found),
            _ => {
                if !here.is_whitespace() {
                    found.push(Token::Sign(here));
                }
                at + 1
            }
        };
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn skip_while(chars: &[char], from: usize, what: impl Fn(char) -> bool) -> usize {
    from + chars[from..].iter().take_while(|c| what(**c)).count()
}

/// Block comments nest.
fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn string(chars: &[char], from: usize, found: &mut Vec<Token>) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    found.push(Token::Text(chars[from + 1..at.min(chars.len())].iter().collect()));
    at + 1
}

/// A character or a lifetime.
fn quote(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => skip_while(chars, from + 3, |c| c != '\'') + 1,
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

/// A word, or a raw string whose first letter looked like one.
fn word(chars: &[char], from: usize, found: &mut Vec<Token>) -> usize {
    let end = skip_while(chars, from, is_word);
    let word: String = chars[from..end].iter().collect();
    if matches!(word.as_str(), "r" | "br" | "cr") {
        let quote = skip_while(chars, end, |c| c == '#');
        if chars.get(quote) == Some(&'"') {
            let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', quote - end)).collect();
            let rest = &chars[quote + 1..];
            let length = rest.windows(closing.len()).position(|window| window == closing).unwrap_or(rest.len());
            found.push(Token::Text(rest[..length].iter().collect()));
            return quote + 1 + length + closing.len();
        }
    }
    found.push(Token::Word(word));
    end
}

/// An item that only tests compile: its tokens with all its attributes.
type TestItem = std::ops::Range<usize>;

/// The tokens without the items that only tests compile.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut from = 0;
    for item in test_items(tokens) {
        kept.extend_from_slice(&tokens[from..item.start]);
        from = item.end;
    }
    kept.extend_from_slice(&tokens[from..]);
    kept
}

fn test_items(tokens: &[Token]) -> Vec<TestItem> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            let end = item_end(tokens, at);
            items.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    items
}

/// `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let word = |token: &Token| if let Token::Word(word) = token { Some(word.clone()) } else { None };
    let words: Vec<String> = tokens.iter().take(7).filter_map(word).collect();
    let says = |begin: &[&str]| words.iter().zip(begin).filter(|(word, wanted)| word == wanted).count() == begin.len();
    let opens = tokens.first() == Some(&Token::Sign('#')) && tokens.get(1) == Some(&Token::Sign('['));
    opens && (says(&["cfg", "test"]) || says(&["cfg", "all", "test"]))
}

/// Behind an item: behind its first `;` or its first block, both outside of brackets.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']') => depth = depth.saturating_sub(1),
            Token::Sign('}') => {
                depth = depth.saturating_sub(1);
                let import = tokens.get(at + 1) == Some(&Token::Sign(';'));
                if depth == 0 {
                    return if import { at + 2 } else { at + 1 };
                }
            }
            Token::Sign(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Files and directories that only tests compile, by the `#[cfg(test)] mod NAME;` lines of the others.
pub fn test_files(sources: &[(String, String)]) -> Vec<String> {
    let mut files = Vec::new();
    for (name, text) in sources {
        let tokens = tokens(text);
        let dir = name.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/');
        let beside = name.rsplit_once('/').map_or("", |(dir, _)| dir);
        for item in test_items(&tokens) {
            let item = &tokens[item];
            let Some(at) = item.windows(3).position(|w| w[0].is("mod") && w[2] == Token::Sign(';')) else { continue };
            if let Token::Word(module) = &item[at + 1] {
                files.extend([format!("{dir}/{module}"), format!("{dir}/{module}.rs")]);
            }
            let path = item.windows(3).find(|w| w[0].is("path") && w[1] == Token::Sign('='));
            if let Some([_, _, Token::Text(path)]) = path {
                files.push(format!("{beside}/{path}"));
            }
        }
    }
    files
}
