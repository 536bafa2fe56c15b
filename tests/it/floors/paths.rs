//! Which modules of the crate a source names, in `use` and in the middle of code.

use super::source::{Token, tokens, without_tests};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A module of the crate.
    Module(String),
    /// A path that cannot be judged or that nobody should write, with the reason.
    Refused(String),
}

/// Everything that a source names outside of its tests. `at_door`: `super` leads out of the module.
pub fn named(text: &str, at_door: bool) -> Vec<Named> {
    let tokens = without_tests(&tokens(text));
    let mut found = Vec::new();
    let mut inner = Inner::default();
    for at in 0..tokens.len() {
        inner.step(&tokens, at);
        let Token::Word(word) = &tokens[at] else { continue };
        match word.as_str() {
            "crate" if tokens.get(at + 1).is_some_and(|token| token.is("as")) => {
                found.push(Named::Refused("names the whole crate (`crate as`)".to_owned()));
            }
            "crate" if at > 0 && tokens[at - 1].is("extern") => {
                found.push(Named::Refused("gives the crate another name (`extern crate`)".to_owned()));
            }
            "crate" | "hapilot" if is_path(&tokens, at + 1) => found.extend(first(&tokens, at + 3)),
            "super" if is_path(&tokens, at + 1) && tokens.get(at + 3).is_some_and(|token| token.is("super")) => {
                found.push(Named::Refused("climbs twice (`super::super`): write `crate::…`".to_owned()));
            }
            "super" if at_door && inner.is_outside() && is_path(&tokens, at + 1) => {
                found.extend(first(&tokens, at + 3));
            }
            _ => {}
        }
    }
    found
}

/// `::`
pub fn is_path(tokens: &[Token], at: usize) -> bool {
    tokens.get(at) == Some(&Token::Sign(':')) && tokens.get(at + 1) == Some(&Token::Sign(':'))
}

/// What stands behind `crate::`: one module, or the first of each path of a group.
fn first(tokens: &[Token], at: usize) -> Vec<Named> {
    let mut found: Vec<Named> = expand(tokens, at).iter().map(|path| one(&path[0])).collect();
    // `a::{b, c}` is one.
    found.dedup();
    found
}

fn one(word: &str) -> Named {
    match word {
        "self" => Named::Refused("names the whole crate (`self`)".to_owned()),
        "*" => Named::Refused("names everything (`*`)".to_owned()),
        word => Named::Module(word.to_owned()),
    }
}

/// Every path that begins here: `a::{b, c::d}` is two.
pub fn expand(tokens: &[Token], at: usize) -> Vec<Vec<String>> {
    match tokens.get(at) {
        Some(Token::Word(word)) if is_path(tokens, at + 1) => {
            let rest = expand(tokens, at + 3);
            rest.into_iter().map(|path| std::iter::once(word.clone()).chain(path).collect()).collect()
        }
        Some(Token::Word(word)) => vec![vec![word.clone()]],
        Some(Token::Sign('{')) => {
            let mut found = Vec::new();
            let (mut depth, mut begins) = (0_usize, true);
            for (at, token) in tokens.iter().enumerate().skip(at + 1) {
                match token {
                    Token::Sign('{') => depth += 1,
                    Token::Sign('}') if depth == 0 => break,
                    Token::Sign('}') => depth -= 1,
                    Token::Sign(',') if depth == 0 => {
                        begins = true;
                        continue;
                    }
                    Token::Word(_) | Token::Sign('*') if depth == 0 && begins => found.extend(expand(tokens, at)),
                    _ => {}
                }
                begins = false;
            }
            found
        }
        _ => vec![vec!["*".to_owned()]],
    }
}

/// Whether a token lies in a `mod NAME { … }` of the file, where `super` is the file itself.
#[derive(Debug, Default)]
struct Inner {
    depth: usize,
    began: Option<usize>,
}

impl Inner {
    fn step(&mut self, tokens: &[Token], at: usize) {
        match tokens[at] {
            Token::Sign('{') => {
                let inline = at >= 2 && tokens[at - 2].is("mod") && matches!(tokens[at - 1], Token::Word(_));
                if inline && self.began.is_none() {
                    self.began = Some(self.depth);
                }
                self.depth += 1;
            }
            Token::Sign('}') => {
                self.depth = self.depth.saturating_sub(1);
                if self.began == Some(self.depth) {
                    self.began = None;
                }
            }
            _ => {}
        }
    }

    fn is_outside(&self) -> bool {
        self.began.is_none()
    }
}
