//! Which binds a haproxy.cfg has, and how each can be asked who serves it. Pure.
//!
//! Read from the very text that HAProxy loads, so that an operator's own template is judged as it is.

use crate::cfg::{self, Line};
use crate::model::BindAddress;

/// Where each of hapilot's frontends answers, to this node alone, with the process id of the worker.
pub(super) const WORKER_PATH: &str = "/.hapilot/worker";

/// One address that HAProxy listens on for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The section that it belongs to.
    pub proxy: String,
    /// Where.
    pub address: BindAddress,
    /// How it can be asked.
    pub question: Question,
    /// A `tcp-request` rule may hang up on us before the question is read.
    pub may_hang_up: bool,
}

/// How a listener can be asked which worker serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// In clear text.
    Clear,
    /// Over TLS.
    Tls,
    /// Only whether it accepts a connection, for this reason.
    Accepts(&'static str),
}

/// Every TCP listener of `frontend` and `listen` sections whose address is plain; hops and Unix sockets are not for
/// clients.
pub fn listeners(haproxy_cfg: &str) -> Vec<Listener> {
    let mut all = Vec::new();
    let mut section = Section::default();
    for line in cfg::lines(haproxy_cfg) {
        if line.is_header {
            all.append(&mut std::mem::take(&mut section).finish());
            section.proxy = line.section.kind.has_binds().then(|| line.section.name.into_owned());
        } else if section.proxy.is_some() {
            section.take(&line);
        }
    }
    all.append(&mut section.finish());
    all
}

/// A section with listeners as it is read.
#[derive(Default)]
struct Section {
    /// `None` in a section that has none.
    proxy: Option<String>,
    binds: Vec<(BindAddress, Option<Question>)>,
    answers: bool,
    may_hang_up: bool,
}

impl Section {
    /// A `bind` under a condition may not be there, and an answer as well.
    fn take(&mut self, line: &Line<'_>) {
        let mut words = line.arguments().filter_map(|word| word.said);
        match &*line.keyword {
            "bind" if !line.is_conditional => {
                let addresses = line.arguments().next().and_then(|word| word.said).unwrap_or_default();
                let question = question(line);
                let plain = addresses.split(',').filter_map(|address| address.parse().ok());
                self.binds.extend(plain.map(|address| (address, question)));
            }
            "tcp-request" => self.may_hang_up = true,
            "http-request" if !line.is_conditional && words.next().is_some_and(|word| word == "return") => {
                self.answers |= words.any(|word| word == WORKER_PATH);
            }
            _ => {}
        }
    }

    fn finish(self) -> Vec<Listener> {
        let Self { proxy: Some(proxy), binds, answers, may_hang_up } = self else { return vec![] };
        let listener = |(address, question): (BindAddress, Option<Question>)| {
            let question = match question {
                Some(question) if answers => question,
                Some(_) => Question::Accepts("the template leaves parts/worker.cfg out"),
                None => Question::Accepts("its bind line wants more of a client than a connection"),
            };
            Listener { proxy: proxy.clone(), address, question, may_hang_up }
        };
        binds.into_iter().map(listener).collect()
    }
}

/// `None` where the client must show something that we do not have: a certificate, a name, the PROXY protocol.
fn question(bind: &Line<'_>) -> Option<Question> {
    let mut question = Question::Clear;
    let mut before = String::new();
    for word in bind.arguments().skip(1).filter_map(|word| word.said) {
        match &*word {
            "accept-proxy" | "accept-netscaler-cip" | "strict-sni" => return None,
            "required" if before == "verify" => return None,
            "ssl" => question = Question::Tls,
            _ => {}
        }
        before = word.into_owned();
    }
    Some(question)
}

#[cfg(test)]
mod tests {
    use super::{Question, listeners};

    #[test]
    fn each_bind_is_asked_as_its_section_allows() {
        let text = "global\n    stats socket /x level admin\ndefaults\n    mode http\n\
            frontend api\n    bind *:443 ssl crt /x alpn h2,http/1.1\n    bind 127.0.0.1:80,[::]:81 v4v6\n    \
            http-request return status 200 hdr X-Hapilot-Worker %pid if { path /.hapilot/worker } { src ::1 }\n\
            backend b\n    server a 127.0.0.1:1\nlisten b:hop\n    bind abns@x\n\
            frontend own # bind *:1\nbind *:2\n.if A\nbind *:9\n.endif\n    tcp-request connection reject if FALSE\n\
            peers p\n    bind *:8\n   frontend 'quoted'\n    bind \"*:4,*:5\" ssl crt \"${CERTIFICATE}\" # verify\n\
            frontend strict\n    bind *:3 ssl crt /x strict-sni\n    http-request return if { path /.hapilot/worker }\n";
        let found: Vec<_> = listeners(text)
            .into_iter()
            .map(|l| {
                let question = match l.question {
                    Question::Clear => "clear",
                    Question::Tls => "tls",
                    Question::Accepts(_) => "accepts",
                };
                (l.proxy, l.address.to_string(), question, l.may_hang_up)
            })
            .collect();
        let row = |proxy: &str, at: &str, question, may| (proxy.to_owned(), at.to_owned(), question, may);
        assert_eq!(
            found,
            [
                row("api", "*:443", "tls", false),
                row("api", "127.0.0.1:80", "clear", false),
                row("api", "[::]:81", "clear", false),
                row("own", "*:2", "accepts", true),
                row("quoted", "*:4", "accepts", false),
                row("quoted", "*:5", "accepts", false),
                row("strict", "*:3", "accepts", false),
            ]
        );
    }
}
