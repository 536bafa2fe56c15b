//! Mail. All of one matter is one thread, its end too.

use super::answer::{Delivery, Fault};
use super::line::one_line;
use super::smtp;
use super::words::{body, headline};
use crate::alerts::Notification;
use crate::config::EmailSink;
use crate::model::{Digest, Secret};
use crate::sys;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use std::time::SystemTime;

/// Of a subject, in characters.
const MAX_SUBJECT: usize = 150;

pub(super) async fn deliver(email: &EmailSink, password: Option<&Secret>, told: &Notification) -> Delivery {
    let message = match message(email, told) {
        Ok(message) => message,
        Err(why) => return Delivery::refused(Fault::Message, why),
    };
    let hello = hello();
    let stream = match smtp::open(&email.server, &hello).await {
        Ok(stream) => stream,
        Err(why) => return Delivery::again(why),
    };
    match send(stream, &hello, email, password, &message).await {
        Ok(()) => Delivery::Done(format!("{} took it", email.server.host)),
        Err(e) => judged(&e),
    }
}

async fn send(
    stream: Box<dyn lettre::transport::smtp::client::AsyncTokioStream>,
    hello: &str,
    email: &EmailSink,
    password: Option<&Secret>,
    message: &Message,
) -> Result<(), Error> {
    let client = ClientId::Domain(hello.to_owned());
    let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &client).await?;
    if let Some(password) = password {
        let login = Credentials::new(email.user.clone(), password.expose().to_owned());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &login).await?;
    }
    connection.send(message.envelope(), &message.formatted()).await?;
    // It was taken, whatever becomes of the farewell.
    let _ = connection.quit().await;
    Ok(())
}

fn judged(error: &Error) -> Delivery {
    let why = sys::chain(error);
    let code = error.status().map(|code| code.to_string()).unwrap_or_default();
    match code.as_str() {
        // The mail itself: too large, or its content is not liked.
        "552" | "554" => Delivery::refused(Fault::Message, why),
        code if code.starts_with('5') => Delivery::refused(Fault::Sink, why),
        // It offers no login that we know, for example.
        _ if error.is_client() => Delivery::refused(Fault::Sink, why),
        _ => Delivery::again(why),
    }
}

/// What this node calls itself.
fn hello() -> String {
    let name = sys::host_name().unwrap_or_default();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    if is_name { name } else { "localhost".to_owned() }
}

fn message(email: &EmailSink, told: &Notification) -> Result<Message, String> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|e| format!("{text}: {e}"));
    let domain = email.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let id = |of: &str| format!("<{}@{domain}>", Digest::of(of).to_string().chars().take(32).collect::<String>());
    let root = id(&format!("{} {}", told.dedup, told.opened));
    let mut builder = Message::builder()
        .from(mailbox(&email.from)?)
        .subject(one_line(&headline(told), MAX_SUBJECT))
        .message_id(Some(id(&told.id)))
        .in_reply_to(root.clone())
        .references(root)
        .date(SystemTime::from(told.at))
        .header(ContentType::TEXT_PLAIN)
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    for to in &email.to {
        builder = builder.to(mailbox(to)?);
    }
    builder.body(body(told)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::webhook::tests::sample;
    use crate::alerts::Change;
    use crate::config::{SmtpServer, SmtpTls};

    #[test]
    fn the_end_is_in_the_thread_of_the_beginning_and_no_word_makes_a_header() {
        let email = EmailSink {
            server: SmtpServer { host: "mail.example".into(), port: 465, tls: SmtpTls::AtOnce },
            from: "lb@example.com".into(),
            to: vec!["ops@example.com".into(), "boss@example.com".into()],
            user: "lb@example.com".into(),
            password: None,
        };
        let text = |told: &Notification| String::from_utf8(message(&email, told).unwrap().formatted()).unwrap();
        let of = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned).expect("the header")
        };
        let mut bad = sample();
        bad.lines[0].text = "evil\r\nBcc: all@example.com".into();
        let mut over = Notification { change: Change::Resolve, id: "x".into(), ..sample() };
        (over.lines[0].is_over, over.lines[0].over_text) = (true, "backend chat serves again".into());
        let (begin, end) = (text(&bad), text(&over));
        assert_eq!(of(&begin, "References: "), of(&end, "References: "));
        assert_ne!(of(&begin, "Message-ID: "), of(&end, "Message-ID: "));
        assert!(!begin.lines().any(|line| line.starts_with("Bcc")), "{begin}");
        assert_eq!(of(&end, "Subject: "), "OVER: backend chat serves again");
        assert_eq!(of(&end, "Auto-Submitted: "), "auto-generated");
    }
}
