//! What `haproxy -c` says, led back to the operator's own lines.
//!
//! Pure: text in, [`CheckVerdict`] out. Refuses to know how the binary is run. Called by whoever runs it, with what it wrote
//! to its standard error.

use crate::cfg;
use crate::model::Origin;
use crate::render::{LineOrigin, Rendered};
use std::cell::LazyCell;
use std::sync::Arc;

/// Most messages that are kept; HAProxy stops long before.
const MAX_MESSAGES: usize = 1000;
/// Shorter values of a secret map are too common to be told from other words.
const SHORTEST_SECRET: usize = 4;

/// Everything that HAProxy said about one rendered file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckVerdict {
    /// In its order.
    pub messages: Vec<HaproxyMessage>,
}

/// How bad a message is, in HAProxy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageLevel {
    /// `[NOTICE]` and everything without a severity.
    Notice,
    /// `[WARNING]`: HAProxy would start.
    Warning,
    /// `[ALERT]`: HAProxy would not start.
    Alert,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyMessage {
    /// How bad.
    pub severity: MessageLevel,
    /// HAProxy's own words, without the place; several lines where it wrote several.
    pub text: String,
    /// Line of haproxy.cfg, from 1.
    pub line: Option<u32>,
    /// The places in the operator's file that the line stems from.
    pub toml: Vec<Origin>,
    /// File and line of the template.
    pub template: Option<(Arc<str>, u32)>,
    /// The line itself, without the blanks before it.
    pub rendered_line: Option<String>,
}

impl CheckVerdict {
    /// Reads what `haproxy -c` wrote about `rendered`. Values of secret maps are replaced by `…` wherever they appear.
    /// `origins` is asked where a line is named: see [`crate::render::line_origins`].
    pub fn parse(stderr: &str, rendered: &Rendered, origins: impl FnOnce() -> Vec<LineOrigin>) -> Self {
        let origins = LazyCell::new(origins);
        let lead_back = |said: &mut HaproxyMessage, number| lead_back(said, number, rendered, &origins);
        let mut messages: Vec<HaproxyMessage> = Vec::new();
        for line in stderr.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(said) = message(line, rendered, &lead_back) {
                if messages.len() == MAX_MESSAGES {
                    break;
                }
                if !is_chatter(&said.text) {
                    messages.push(said);
                }
            } else if let Some(last) = messages.last_mut().filter(|_| !is_summary(line)) {
                // Continued lines are drawn with a bar.
                last.text.push('\n');
                last.text.push_str(line.trim().trim_start_matches('|').trim());
            } else if !is_summary(line) {
                messages.push(unplaced(MessageLevel::Notice, line.trim()));
            }
        }
        // "Fatal errors found" says something only where nothing else does.
        if messages.iter().any(|said| said.severity == MessageLevel::Alert && !is_summary(&said.text)) {
            messages.retain(|said| !is_summary(&said.text));
        }
        for said in &mut messages {
            said.text = without_secrets(&said.text, rendered);
            said.rendered_line = said.rendered_line.as_ref().map(|line| without_secrets(line, rendered));
        }
        Self { messages }
    }

    /// The worst that was said; `None` where nothing was.
    pub fn worst(&self) -> Option<MessageLevel> {
        self.messages.iter().map(|said| said.severity).max()
    }
}

/// A line with a severity: `[ALERT]    (123) : config : parsing [file:12] : what is wrong`.
fn message(line: &str, rendered: &Rendered, lead_back: &impl Fn(&mut HaproxyMessage, u32)) -> Option<HaproxyMessage> {
    let (severity, rest) = line.strip_prefix('[')?.split_once(']')?;
    let severity = match severity {
        "ALERT" | "EMERG" | "CRIT" => MessageLevel::Alert,
        "WARNING" => MessageLevel::Warning,
        "NOTICE" | "INFO" | "DEBUG" | "DIAG" => MessageLevel::Notice,
        _ => return None,
    };
    // The process id, and from 3.2 on no "config".
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
    let rest = without_colon(rest);
    let rest =
        rest.strip_prefix("config").filter(|rest| rest.trim_start().starts_with(':')).map_or(rest, without_colon);
    let Some((number, text)) = place(rest) else {
        let mut said = unplaced(severity, rest);
        if let Some(number) = section_named_in(rest, rendered) {
            lead_back(&mut said, number);
        }
        return Some(said);
    };
    let mut said = unplaced(severity, &text);
    lead_back(&mut said, number);
    Some(said)
}

fn unplaced(severity: MessageLevel, text: &str) -> HaproxyMessage {
    HaproxyMessage { severity, text: text.to_owned(), line: None, toml: vec![], template: None, rendered_line: None }
}

fn without_colon(text: &str) -> &str {
    let text = text.trim_start();
    text.strip_prefix(':').unwrap_or(text).trim_start()
}

/// `parsing [file:12] : text` or `[file:12] : text`.
fn place(text: &str) -> Option<(u32, String)> {
    let rest = text.strip_prefix("parsing").or_else(|| text.strip_prefix("Parsing")).unwrap_or(text);
    let rest = rest.trim_start().strip_prefix('[')?;
    let (place, rest) = rest.split_once(']')?;
    let (file, number) = place.rsplit_once(':')?;
    // Words about another line name the file once more: a temporary one.
    let text = without_colon(rest).replace(&format!("{file}:"), "haproxy.cfg:");
    Some((number.trim().parse().ok()?, text))
}

fn lead_back(said: &mut HaproxyMessage, number: u32, rendered: &Rendered, origins: &[LineOrigin]) {
    said.line = Some(number);
    let Some(index) = number.checked_sub(1).and_then(|index| usize::try_from(index).ok()) else { return };
    if let Some(LineOrigin { toml, template }) = origins.get(index) {
        said.toml.clone_from(toml);
        said.template.clone_from(template);
    }
    said.rendered_line = rendered.haproxy_cfg.lines().nth(index).map(|line| line.trim().to_owned());
}

/// The line of the section that a message without a place names: `missing timeouts for frontend 'api'.`
fn section_named_in(text: &str, rendered: &Rendered) -> Option<u32> {
    let name = ["frontend '", "backend '", "listen '", "proxy '"]
        .iter()
        .find_map(|kind| Some(text.split_once(kind)?.1.split_once('\'')?.0))?;
    let mut headers = cfg::lines(&rendered.haproxy_cfg).filter(|line| line.is_header);
    let header = headers.find(|line| line.section.kind.is_proxy() && line.section.name == name)?;
    u32::try_from(header.index + 1).ok()
}

/// What HAProxy always says first.
fn is_chatter(text: &str) -> bool {
    text.starts_with("haproxy version is ") || text.starts_with("path to executable is ")
}

/// What HAProxy says last.
fn is_summary(text: &str) -> bool {
    text.starts_with("Error(s) found in configuration file")
        || text.starts_with("Fatal errors found in configuration")
        || text.starts_with("Warnings were found")
        || text.starts_with("Configuration file is valid")
}

fn without_secrets(text: &str, rendered: &Rendered) -> String {
    let secrets = rendered
        .maps
        .values()
        .filter(|map| map.is_secret)
        .flat_map(|map| &map.entries)
        .map(|(_, value)| value.as_str())
        .filter(|value| value.len() >= SHORTEST_SECRET);
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
}

#[cfg(test)]
mod tests {
    use super::{CheckVerdict, MessageLevel};
    use crate::model::Origin;
    use crate::render::{LineOrigin, MapFile, Rendered};
    use std::collections::BTreeMap;

    fn rendered() -> Rendered {
        let haproxy_cfg = "# head\nglobal\n    maxconn 5\nfrontend api\n    raw sk-secret\n";
        let keys = MapFile { entries: vec![("chat".into(), "sk-secret".into())], is_secret: true };
        Rendered::of_text(haproxy_cfg, BTreeMap::from([("maps/keys.map".to_owned(), keys)]))
    }

    fn origins() -> Vec<LineOrigin> {
        let of = |line| LineOrigin {
            toml: vec![Origin { line, column: 1 }],
            template: Some(("parts/global.cfg".into(), line + 10)),
        };
        (0..5).map(of).collect()
    }

    #[track_caller]
    fn check(stderr: &str, expected: &[(MessageLevel, &str, Option<u32>)]) -> CheckVerdict {
        let verdict = CheckVerdict::parse(stderr, &rendered(), origins);
        let said: Vec<_> = verdict.messages.iter().map(|said| (said.severity, said.text.as_str(), said.line)).collect();
        assert_eq!(said, expected);
        verdict
    }

    #[test]
    fn the_forms_of_all_versions_are_led_back() {
        let wrong = (MessageLevel::Alert, "unknown keyword 'x' in 'global' section", Some(3));
        for form in [
            "[ALERT]    (1) : config : parsing [/tmp/a:b/x.cfg:3] : unknown keyword 'x' in 'global' section",
            "[ALERT]    (1) : config : parsing [x.cfg:3]: unknown keyword 'x' in 'global' section",
            "[ALERT]    (1) : parsing [x.cfg:3] : unknown keyword 'x' in 'global' section",
        ] {
            let verdict = check(form, &[wrong]);
            assert_eq!(verdict.messages[0].toml, [Origin { line: 2, column: 1 }]);
            assert_eq!(verdict.messages[0].template, Some(("parts/global.cfg".into(), 12)));
            assert_eq!(verdict.messages[0].rendered_line.as_deref(), Some("maxconn 5"));
        }
        check(
            "[WARNING]  (1) : config : Parsing [/tmp/x.cfg:3]: backend 'a' has the same name as frontend 'a' declared at /tmp/x.cfg:2.",
            &[(
                MessageLevel::Warning,
                "backend 'a' has the same name as frontend 'a' declared at haproxy.cfg:2.",
                Some(3),
            )],
        );
        check(
            "[ALERT] (1) : config : [x.cfg:3] : 'server b/s' : unable to load it.\n",
            &[(MessageLevel::Alert, "'server b/s' : unable to load it.", Some(3))],
        );
    }

    #[test]
    fn a_message_of_several_lines_stays_one_and_its_section_is_found() {
        let text = "[NOTICE]   (1) : haproxy version is 3.2.26-1\n\
                    [WARNING]  (1) : missing timeouts for frontend 'api'.\n   | While not properly invalid,\n   | you will.\n\
                    Warnings were found.\nConfiguration file is valid\n";
        let expected = "missing timeouts for frontend 'api'.\nWhile not properly invalid,\nyou will.";
        let verdict = check(text, &[(MessageLevel::Warning, expected, Some(4))]);
        assert_eq!(verdict.worst(), Some(MessageLevel::Warning));
    }

    #[test]
    fn the_summary_is_kept_only_where_it_is_all() {
        let fatal = "[ALERT]    (1) : config : Fatal errors found in configuration.";
        check(fatal, &[(MessageLevel::Alert, "Fatal errors found in configuration.", None)]);
        check(&format!("[ALERT] (1) : config : odd\n{fatal}"), &[(MessageLevel::Alert, "odd", None)]);
    }

    #[test]
    fn what_does_not_match_is_kept_and_secrets_are_not() {
        check("Segmentation fault\n", &[(MessageLevel::Notice, "Segmentation fault", None)]);
        check("", &[]);
        let verdict = check(
            "[ALERT] (1) : config : parsing [x:5] : 'raw sk-secret' : no.\n[ALERT] (1) : config : parsing [x:99] : far",
            &[(MessageLevel::Alert, "'raw …' : no.", Some(5)), (MessageLevel::Alert, "far", Some(99))],
        );
        assert_eq!(verdict.messages[0].rendered_line.as_deref(), Some("raw …"));
        assert_eq!(verdict.messages[1].rendered_line, None);
    }
}
