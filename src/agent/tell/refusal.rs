//! Why something is not done, or goes on badly: data until it is printed or sent, and put into words here alone.
//!
//! Knows no reason of its own. Every text that comes in loses the secrets that this process knows. Called by whoever
//! refuses; read by whoever prints, who asks for the words and never looks at them.

use crate::config::Diagnostics;
use crate::model::{Origin, visible, visible_in_colors};
use crate::sys::redact::redact;
use std::fmt::{self, Display};

/// Where something is wrong: a file, a place in it, or what else it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    subject: String,
    line: Option<u32>,
    column: Option<u32>,
}

/// How grave one reason is: what stands in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Error,
    Warning,
    /// A state that somebody should know of, and no error.
    Notice,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    label: Label,
    at: Option<At>,
    what: String,
    quote: Option<String>,
    help: Vec<String>,
}

/// Everything that speaks against something, what was done all the same, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reasons: Reasons,
    rest: Vec<Rest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reasons {
    Objections(Vec<Objection>),
    /// The operator's file has mistakes; they show their lines.
    Mistakes(Box<Diagnostics>),
}

/// What follows the reasons, in the order in which it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    NothingChanged,
    Done(String),
    Help(String),
    /// Another refusal, with what leads over to it.
    Besides(String, Box<Refusal>),
}

impl At {
    /// A file, an interface, a section: whatever it is about.
    pub fn subject(subject: impl Display) -> Self {
        Self { subject: clean(subject), line: None, column: None }
    }

    /// A line of a file, counted from 1.
    pub fn line(file: impl Display, line: u32) -> Self {
        Self { line: Some(line), ..Self::subject(file) }
    }

    /// A place in a file, as far as it is known.
    pub fn origin(file: impl Display, origin: Option<Origin>) -> Self {
        let (line, column) = (origin.map(|origin| origin.line), origin.map(|origin| origin.column));
        Self { line, column, ..Self::subject(file) }
    }
}

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        [self.line, self.column].iter().flatten().try_for_each(|number| write!(f, ":{number}"))
    }
}

impl Objection {
    /// An error.
    pub fn new(what: impl Display) -> Self {
        Self { label: Label::Error, at: None, what: clean(what), quote: None, help: vec![] }
    }

    /// What holds nothing back by itself, told beside what does.
    pub fn warning(what: impl Display) -> Self {
        Self { label: Label::Warning, ..Self::new(what) }
    }

    /// A state that somebody should know of, and no error.
    pub fn notice(what: impl Display) -> Self {
        Self { label: Label::Notice, ..Self::new(what) }
    }

    /// Where it is.
    #[must_use]
    pub fn at(self, at: At) -> Self {
        Self { at: Some(at), ..self }
    }

    /// Lines of somebody's file or words of another program, shown below it as they are.
    #[must_use]
    pub fn quoting(self, quote: impl Display) -> Self {
        Self { quote: Some(clean(quote)), ..self }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Display) -> Self {
        self.help.push(clean(help));
        self
    }

    fn labelled(&self) -> String {
        match self.label {
            Label::Error => format!("error: {self}"),
            Label::Warning => format!("warning: {self}"),
            Label::Notice => self.to_string(),
        }
    }
}

/// Without its label: for who tells it as a warning or a note.
impl Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(quote) = &self.quote {
            write!(f, "\n{quote}")?;
        }
        self.help.iter().try_for_each(|help| write!(f, "\n  help: {help}"))
    }
}

impl Refusal {
    /// Whether both refuse for the same.
    pub(in crate::agent) fn has_reasons_of(&self, other: &Self) -> bool {
        self.reasons == other.reasons
    }

    /// For one reason.
    pub fn new(what: impl Display) -> Self {
        Self::from(Objection::new(what))
    }

    /// A state that somebody should know of, and no error.
    pub fn notice(what: impl Display) -> Self {
        Self::from(Objection::notice(what))
    }

    /// For all of these.
    pub fn of(objections: impl IntoIterator<Item = Objection>) -> Self {
        Self { reasons: Reasons::Objections(objections.into_iter().collect()), rest: vec![] }
    }

    /// The operator's file has mistakes.
    pub fn mistakes(diagnostics: Diagnostics) -> Self {
        Self { reasons: Reasons::Mistakes(Box::new(diagnostics)), rest: vec![] }
    }

    /// What to do.
    #[must_use]
    pub fn help(self, help: impl Display) -> Self {
        self.then(Rest::Help(clean(help)))
    }

    /// What was done all the same, or what serves now.
    #[must_use]
    pub fn done(self, done: impl Display) -> Self {
        self.then(Rest::Done(clean(done)))
    }

    /// Everything is as it was.
    #[must_use]
    pub fn nothing_changed(self) -> Self {
        self.then(Rest::NothingChanged)
    }

    /// The same where something was done after all.
    #[must_use]
    pub fn something_changed(mut self) -> Self {
        self.rest.retain(|rest| *rest != Rest::NothingChanged);
        self
    }

    /// Another refusal that belongs to it; `words` lead over to it, their line break or blank included.
    #[must_use]
    pub fn besides(self, words: impl Display, other: Self) -> Self {
        self.then(Rest::Besides(clean(words), Box::new(other)))
    }

    /// The same as an error, where it was a mere notice.
    #[must_use]
    pub fn as_error(mut self) -> Self {
        if let Reasons::Objections(objections) = &mut self.reasons
            && let Some(first) = objections.first_mut()
        {
            first.label = Label::Error;
        }
        self
    }

    fn then(mut self, rest: Rest) -> Self {
        self.rest.push(rest);
        self
    }

    /// Whether this is one of the reasons.
    pub fn has(&self, objection: &Objection) -> bool {
        matches!(&self.reasons, Reasons::Objections(objections) if objections.contains(objection))
    }

    /// The first reason in one line and without a label: for other nodes, and for lists.
    pub fn headline(&self) -> String {
        let text = match &self.reasons {
            Reasons::Objections(objections) => objections.first().map(ToString::to_string),
            Reasons::Mistakes(mistakes) => {
                mistakes.iter().next().map(|one| format!("{}[{}]: {}", one.severity, one.code, one.message))
            }
        };
        let text = clean(text.unwrap_or_default());
        text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }

    /// The same without the label of its first reason: behind words that say already that it is an error.
    pub fn unlabelled(&self) -> String {
        let mut other = self.clone();
        if let Reasons::Objections(objections) = &mut other.reasons
            && let Some(first) = objections.first_mut()
        {
            first.label = Label::Notice;
        }
        other.to_string()
    }

    /// The words, with colours in the lines of the operator's file where they are asked for.
    pub fn render(&self, color: bool) -> String {
        let mut blocks = match &self.reasons {
            Reasons::Objections(objections) => objections.iter().map(Objection::labelled).collect(),
            // They quote lines of a file.
            Reasons::Mistakes(diagnostics) => {
                let text = redact(diagnostics.render(color).trim_end().to_owned());
                vec![if color { visible_in_colors(&text) } else { visible(&text) }]
            }
        };
        blocks.extend(self.rest.iter().map(|rest| match rest {
            Rest::NothingChanged => "nothing was changed".to_owned(),
            Rest::Done(done) => done.clone(),
            Rest::Help(help) => format!("  help: {help}"),
            Rest::Besides(words, other) => format!("{words}{}", other.render(color)),
        }));
        blocks.join("\n").trim_end().to_owned()
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Refusal {}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        Self::of([objection])
    }
}

impl From<&str> for Refusal {
    fn from(what: &str) -> Self {
        Self::new(what)
    }
}

impl From<String> for Refusal {
    fn from(what: String) -> Self {
        Self::new(what)
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

/// Without secrets, and without what a terminal would obey.
fn clean(text: impl Display) -> String {
    visible(&redact(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_have_colours_and_nothing_else_that_a_terminal_obeys() {
        let hostile = "\u{1b}[31m\u{7}\u{9b}5m\u{7f}\r";
        let texts = [
            "[node]\nnaem = \"a\"\n".to_owned(),
            format!("[node]\nnaem = \"{hostile}\"\n"),
            format!("[node]\n\"{hostile}\" = 1\n"),
            format!("# {hostile}\n[node]\nname = 1\n"),
            format!("[node]\nname = \"a\"\n[backend.\"{hostile}\"]\nprovider = \"{hostile}\"\n"),
            "[node]\n\"\\u001b[31m\" = 1\n[frontend.\"\\u0007\"]\n".to_owned(),
        ];
        for text in texts {
            let mistakes = crate::config::parse("f.toml", &text, "node-a").expect_err("mistakes");
            let refusal = Refusal::mistakes(mistakes);
            let (coloured, plain) = (refusal.render(true), refusal.render(false));
            assert!(coloured.contains("\u{1b}[1m"), "{coloured:?}");
            let is_obeyed = |c: char| c.is_control() && c != '\n';
            assert!(!plain.contains(is_obeyed), "{plain:?}");
            // What is left without the colours is the plain text: each escape is one of a colour.
            let mut pieces = coloured.split('\u{1b}');
            let mut bare = pieces.next().unwrap_or_default().to_owned();
            for piece in pieces {
                let (style, rest) = piece.split_once('m').expect("the end of a colour");
                assert!(
                    style
                        .strip_prefix('[')
                        .is_some_and(|style| !style.contains(|c: char| !c.is_ascii_digit() && c != ';'))
                );
                bare.push_str(rest);
            }
            assert_eq!(bare, plain);
        }
    }

    #[test]
    fn it_is_told_in_the_order_in_which_it_was_said() {
        let second = Objection::new("b is missing").at(At::line("a.toml", 3)).help("write b");
        let refusal =
            Refusal::of([Objection::new("a is wrong"), second.clone(), Objection::warning("c").quoting(" | c")]);
        let refusal = refusal.help("mend it").nothing_changed();
        let wanted = "error: a is wrong\nerror: a.toml:3: b is missing\n  help: write b\nwarning: c\n | c\n  help: mend it\n\
                      nothing was changed";
        assert_eq!(refusal.to_string(), wanted);
        assert!(refusal.has(&second) && !refusal.has(&Objection::new("c")));
        let after =
            refusal.something_changed().done("the files are new").besides("and besides:\n", Refusal::notice("d"));
        assert!(after.to_string().ends_with("  help: mend it\nthe files are new\nand besides:\nd"), "{after}");
    }

    #[test]
    fn a_notice_has_no_label_until_it_is_an_error() {
        let notice = Refusal::notice("the file waits\nin two lines");
        assert_eq!(notice.to_string(), "the file waits\nin two lines");
        assert_eq!(notice.headline(), "the file waits");
        assert_eq!(notice.as_error().to_string(), "error: the file waits\nin two lines");
        let refusal = Refusal::new("no").help("yes");
        assert_eq!((refusal.unlabelled().as_str(), refusal.headline().as_str()), ("no\n  help: yes", "no"));
    }

    #[test]
    fn a_secret_is_in_no_word_of_it() {
        crate::sys::redact::learn("sk-refusal-secret-1");
        let (at, quote) = (At::subject("sk-refusal-secret-1"), "= says sk-refusal-secret-1");
        let one = Objection::new("sk-refusal-secret-1").at(at).quoting(quote).help("sk-refusal-secret-1");
        let refusal = Refusal::from(one).help("sk-refusal-secret-1").done("sk-refusal-secret-1");
        let all = format!("{refusal} {refusal:?} {} {}", refusal.headline(), refusal.unlabelled());
        assert!(!all.contains("sk-refusal"), "{all}");
    }
}
