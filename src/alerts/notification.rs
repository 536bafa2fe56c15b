//! What a sink is given to tell.

use super::topic::{Topic, Urgency};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What has become of a group of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Trigger,
    /// Something came to it, or went.
    Update,
    /// It still lasts.
    Repeat,
    /// It still lasts, for a sink that forgets what is not told again.
    Refresh,
    /// It is over.
    Resolve,
    /// It happened, nothing lasted, and it has not happened again for long: only what keeps open alerts is told.
    Expire,
    /// Another revision serves: no alert at all.
    Applied,
}

impl Change {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Update => "update",
            Self::Repeat => "repeat",
            Self::Refresh => "refresh",
            Self::Resolve => "resolve",
            Self::Expire => "expire",
            Self::Applied => "applied",
        }
    }

    /// Whether nothing of it lasts any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Resolve | Self::Expire)
    }

    /// Whether a newer one of the same group says all that it says.
    pub(super) fn is_overtaken(self) -> bool {
        matches!(self, Self::Update | Self::Repeat | Self::Refresh)
    }
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The same when it is sent again, and no other's.
    pub id: String,
    /// The same for all notifications of one matter, on all nodes and over restarts.
    pub dedup: String,
    /// What has become of it.
    pub change: Change,
    /// The worst of what lasts; when it is over, of what lasted.
    pub urgency: Urgency,
    /// What it is about: a backend, `haproxy`, `budget`.
    pub scope: String,
    /// The node that tells it.
    pub node: String,
    /// When it was decided.
    pub at: Timestamp,
    /// Since when the matter lasts.
    pub since: Timestamp,
    /// When it was told first.
    pub opened: Timestamp,
    /// The alerts, the worst first; those that are over last.
    pub lines: Vec<Line>,
    /// So many more have no place here.
    #[serde(default)]
    pub more: usize,
    /// What carries meanwhile, and where to look.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// One alert of a notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Stable, see [`super::Alert`].
    pub key: String,
    /// What it is about.
    pub topic: Topic,
    /// How soon somebody must look.
    pub urgency: Urgency,
    /// Whom it befell.
    pub subject: String,
    /// In words.
    pub text: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Since when.
    pub since: Timestamp,
    /// It is over.
    pub is_over: bool,
    /// How often it began or happened, where that is more than once.
    pub count: u32,
    /// It is new, or happened again, since the last notification.
    #[serde(default)]
    pub is_news: bool,
    /// It happened, and nothing lasts.
    #[serde(default)]
    pub is_event: bool,
    /// When it began, or happened, the last time.
    #[serde(default)]
    pub began: Option<Timestamp>,
    /// When it ended, where it did.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// It has ended, and is kept open until then, since it came back before.
    #[serde(default)]
    pub kept_until: Option<Timestamp>,
    /// Its end in words, where somebody said it.
    #[serde(default)]
    pub over_text: String,
}

impl Line {
    /// Whether it is so now.
    pub fn is_so(&self) -> bool {
        !self.is_over && self.ended.is_none()
    }

    /// What is so now, in words.
    pub fn words(&self) -> String {
        match () {
            () if self.is_so() => self.text.clone(),
            () if self.topic == Topic::Server => format!("{} is well again", self.subject),
            () if !self.over_text.is_empty() => self.over_text.clone(),
            () if self.is_event => self.text.clone(),
            () => format!("not so any more: {}", self.text),
        }
    }

    /// Why it is told though it has ended: ` since 04:01:01 UTC, kept open until …`; nothing of what is over, or is so.
    pub fn kept(&self) -> String {
        let at = |at: Timestamp| at.strftime("%H:%M:%S UTC");
        match (self.is_over, self.ended, self.kept_until) {
            (false, Some(ended), Some(until)) => {
                format!(" since {}, kept open until {} because it flaps", at(ended), at(until))
            }
            (false, Some(ended), None) => format!(" since {}", at(ended)),
            _ => String::new(),
        }
    }
}

impl Notification {
    /// One that is about nothing, to try a sink.
    pub fn test(node: &str, at: Timestamp, change: Change) -> Self {
        let dedup = format!("hapilot/{node}/info/node/test");
        let text = "this is a test of hapilot's alerts; nothing is wrong".to_owned();
        let line = Line {
            key: "agent/test".to_owned(),
            topic: Topic::Agent,
            urgency: Urgency::Info,
            subject: "test".to_owned(),
            text,
            cause: String::new(),
            since: at,
            is_over: change.is_over(),
            count: 1,
            is_news: true,
            is_event: true,
            began: None,
            ended: None,
            kept_until: None,
            over_text: String::new(),
        };
        Self {
            id: format!("{dedup}@{}-{}", at.as_millisecond(), change.as_str()),
            dedup,
            change,
            urgency: Urgency::Info,
            scope: "test".to_owned(),
            node: node.to_owned(),
            at,
            since: at,
            opened: at,
            lines: vec![line],
            more: 0,
            hint: String::new(),
        }
    }

    /// Whose matter it is: the node's, or all nodes'.
    pub fn teller(&self) -> &str {
        self.dedup.split('/').nth(1).unwrap_or_default()
    }

    /// What it is about in one line: of what is so now, the worst of what is new.
    pub fn headline(&self) -> String {
        let is_so = |line: &&Line| self.change.is_over() || line.is_so();
        let so: Vec<&Line> = self.lines.iter().filter(is_so).collect();
        let of = |line: &Line| line.words().lines().next().unwrap_or_default().to_owned();
        let Some(first) = so.first() else {
            return self.lines.first().map(|line| of(line) + &line.kept()).unwrap_or_default();
        };
        let mut text = of(first);
        let ended = self.lines.iter().find(|line| line.is_over);
        if let (Change::Update, false, Some(ended)) = (self.change, first.is_news, ended) {
            text = format!("{}; still: {text}", of(ended));
        }
        match so.len() + self.more {
            1 => text,
            all => format!("{text} (and {} more)", all - 1),
        }
    }
}
