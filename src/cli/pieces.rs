//! The pieces of a line that are copied from it, and so stay whole: commands, bare or in backticks, and what is quoted.
//!
//! Pure. Called by `layout` and `error_text`.

use super::args::Cli;
use clap::CommandFactory;

/// What keeps its words together in an error.
pub(super) const QUOTES: [char; 3] = ['`', '"', '\''];
/// Words of an option's that a value follows.
const WITH_VALUE: [&str; 10] =
    ["-c", "-f", "-S", "-C", "-u", "--config", "--node", "--socket", "--reason", "--confirm"];
/// Programs that a message tells to run.
const PROGRAMS: [&str; 8] = ["hapilot", "haproxy", "sudo", "systemctl", "chmod", "chown", "setcap", "env"];
/// What may begin a line, and stays with the word behind it.
pub(super) const LABELS: [&str; 4] = ["error:", "warning:", "note:", "help:"];

/// The text as it is seen.
pub(super) fn without_colors(line: &str) -> String {
    let mut pieces = line.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    first + &pieces.filter_map(|piece| piece.split_once('m')).map(|(_, visible)| visible).collect::<String>()
}

/// The pieces between which a line may break; what stands in one of these quotes is one.
pub(super) fn pieces(line: &str, quotes: &[char]) -> Vec<String> {
    let words = whole_quotes(line, quotes);
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let is_label = at == 0 && LABELS.contains(&without_colors(&words[0]).as_str());
        let begin = if is_label { at + 1 } else { at };
        let end = command_end(&words, begin).clamp(at + 1, words.len());
        parts.push(words[at..end].join(" "));
        at = end;
    }
    parts
}

/// The words of a line; what stands in quotes is one.
fn whole_quotes(line: &str, quotes: &[char]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest: Vec<&str> = line.split(' ').collect();
    while !rest.is_empty() {
        let open = quotes.iter().copied().find(|quote| match quote {
            // Else an apostrophe.
            '\'' => rest[0].starts_with('\'') && !rest[0][1..].contains('\''),
            _ => rest[0].matches(*quote).count() % 2 == 1,
        });
        let close = open.and_then(|quote| rest[1..].iter().position(|word| word.matches(quote).count() % 2 == 1));
        let end = close.map_or(1, |close| close + 2);
        words.push(rest[..end].join(" "));
        rest.drain(..end);
    }
    words
}

/// Where the piece that begins with this word ends, exclusive: of a command that stands bare behind its options with
/// their values, its subcommand, and what is to be filled in.
fn command_end(words: &[String], at: usize) -> usize {
    let is_program = |word: &str| PROGRAMS.contains(&word.rsplit('/').next().unwrap_or_default());
    let Some(first) = words.get(at) else { return at };
    let (mut end, mut wants_verb) = (at + 1, true);
    if !is_program(first) {
        return end;
    }
    while let Some(word) = words.get(end) {
        let before = words[end - 1].as_str();
        let is_blank =
            !word.chars().any(|c| c.is_ascii_lowercase()) && word.starts_with(|c: char| c.is_ascii_uppercase());
        let is_verb = wants_verb && is_subcommand(word);
        let belongs = before == "sudo" && is_program(word)
            || word.starts_with('-')
            || WITH_VALUE.contains(&before)
            || is_blank
            || is_verb;
        if before.ends_with([',', ';', ':', ')']) || !belongs {
            break;
        }
        wants_verb &= !is_verb;
        end += 1;
    }
    end
}

/// A command of ours, as it is told.
fn is_subcommand(word: &str) -> bool {
    let word = word.trim_end_matches([',', ';', ':', '.', ')']);
    Cli::command().get_subcommands().any(|command| command.get_name() == word)
}
