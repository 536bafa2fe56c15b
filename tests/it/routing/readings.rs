//! Requests that two readers may read in two ways: whatever they name, they are refused.

use super::request::{MODELS, Request, Truth, post};
use crate::support::chance::Chance;

const FORM: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=aaa";

/// Two models, the second one behind more elements than are looked at in a body that is there as a whole.
pub fn behind_much(chance: &mut Chance, path: &str) -> Request {
    let (content_type, body) = match chance.below(6) {
        0 => ("application/json", json(&format!("\"x\":[{}0]", "[],".repeat(40_000)))),
        1 => ("application/json", json(&format!("{}\"y\":0", "\"\":0,".repeat(18_000)))),
        2 => ("application/json", json(&format!("\"x\":\"{}\"", "\\\"".repeat(70_000)))),
        3 => ("application/json", json(&format!("\"x\":{}{}", "[".repeat(40_000), "]".repeat(40_000)))),
        4 => (FORM, format!("model=claude-cheap&{}model=gpt-4o", "_=&".repeat(60_000))),
        _ => {
            let rest = part("x", "1").repeat(199 + chance.index(800));
            (PARTS, format!("{}{rest}{}--aaa--\r\n", part("model", "claude-cheap"), part("model", "gpt-4o")))
        }
    };
    let bytes = post(chance, path, content_type, "", body.as_bytes());
    Request { kind: "two models far apart", bytes, truth: Truth::Refused }
}

fn json(between: &str) -> String {
    format!("{{\"model\":\"claude-cheap\",{between},\"model\":\"gpt-4o\"}}")
}

fn part(name: &str, value: &str) -> String {
    format!("--aaa\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// Bodies and queries that name a second model, or none, for another reader.
pub fn two(chance: &mut Chance, path: &str) -> Request {
    let model = *chance.pick(&MODELS[..8]);
    let other = *chance.pick(&MODELS[8..15]);
    match chance.below(5) {
        0 => query(chance, path, model, other),
        1 => form(chance, path, model, other),
        2 => encoding(chance, path, model, other),
        3 => boundary(chance, path, model, other),
        _ => parts(chance, path, model, other),
    }
}

fn refused(chance: &mut Chance, path: &str, content_type: &str, extra: &str, body: &str) -> Request {
    let bytes = post(chance, path, content_type, extra, body.as_bytes());
    Request { kind: "two readings", bytes, truth: Truth::Refused }
}

/// Pairs that some servers take for `model` and some do not.
fn odd_pairs(chance: &mut Chance, model: &str, other: &str) -> String {
    let blanks = "%20".repeat(100);
    let all = [
        format!("model={model};model={other}"),
        format!("a=1;model={model}"),
        format!("model={model};"),
        format!("model={model}&model={other}"),
        format!("model={model}&mod%65l={other}"),
        format!("model[]={model}"),
        format!("model={model}&model%5B%5D={other}"),
        format!("model%5b0%5d={model}"),
        format!("model={model}&%20model={other}"),
        format!("model={model}&+model={other}"),
        format!("model={model}&{blanks}model={other}"),
        format!("model%00={model}"),
        format!("model={model}&MODEL={other}"),
        format!("_charset_=utf-7&model={model}"),
        "model".to_owned(),
        "a=1&model=%zz".to_owned(),
    ];
    chance.pick(&all).clone()
}

fn query(chance: &mut Chance, path: &str, model: &str, other: &str) -> Request {
    let pairs = odd_pairs(chance, model, other);
    let bytes = format!("GET {path}?{pairs} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes();
    Request { kind: "two readings of a query", bytes, truth: Truth::Refused }
}

fn form(chance: &mut Chance, path: &str, model: &str, other: &str) -> Request {
    let body = match chance.below(4) {
        0 => odd_pairs(chance, model, other),
        1 => format!("{{\"model\":\"{model}\",\"x\":\"&model={other}&\"}}"),
        2 => format!("{{\"x\":\"&mod%65l={other}&\"}}"),
        _ => format!("{{\"model\":\"{model}\",\"x\":\"&model[]={other}&\"}}"),
    };
    let content_type = *chance.pick(&[FORM, "Application/X-WWW-Form-Urlencoded; charset=utf-8"]);
    refused(chance, path, content_type, "", &body)
}

/// Types that say other bytes than ours, or two things.
fn encoding(chance: &mut Chance, path: &str, model: &str, other: &str) -> Request {
    let body = format!("{{\"model\":\"{model}\",\"x\":\"+ACI-,+ACI-model+ACI-:+ACI-{other}\"}}");
    let (content_type, extra) = *chance.pick(&[
        ("application/json; charset=utf-7", ""),
        ("application/json; charset=\"UTF-7\"", ""),
        ("application/json; charset=utf-8; charset=utf-7", ""),
        ("application/json; charset = utf-7", ""),
        ("application/json;charset=utf-16le", ""),
        ("application/json; charset=cp037", ""),
        ("application/json", "Content-Type: application/x-www-form-urlencoded\r\n"),
        ("application/json", "Content-Type: application/json; charset=utf-7\r\n"),
        ("application/json, multipart/form-data; boundary=aaa", ""),
    ]);
    refused(chance, path, content_type, extra, &body)
}

/// Boundaries that end elsewhere for another reader.
fn boundary(chance: &mut Chance, path: &str, model: &str, other: &str) -> Request {
    let long = "a".repeat(71);
    let (content_type, short, whole) = match chance.below(11) {
        0 => ("multipart/form-data; boundary=aaa/b".to_owned(), "aaa", "aaa/b"),
        1 => ("multipart/form-data; boundary=aaa\"b".to_owned(), "aaa", "aaa\"b"),
        2 => ("multipart/form-data; boundary=\"aaa\"b".to_owned(), "aaa", "\"aaa\"b"),
        3 => ("multipart/form-data; boundary=aaa b".to_owned(), "aaa", "aaa b"),
        4 => ("multipart/form-data; boundary=aaa; boundary=b".to_owned(), "aaa", "b"),
        5 => ("multipart/form-data; boundary=aaa; boundary*=b".to_owned(), "aaa", "b"),
        6 => ("multipart/form-data; boundary*0=aaa; boundary*1=b".to_owned(), "aaa", "aaab"),
        7 => ("multipart/form-data; x=\"; boundary=b\"; boundary=aaa".to_owned(), "aaa", "b"),
        8 => (format!("multipart/form-data; boundary={long}"), long.as_str(), &long[..70]),
        9 => ("multipart/form-data; boundary=\"aa\\a\"".to_owned(), "aa\\a", "aaa"),
        _ => (format!("multipart/{}; boundary=aaa", chance.pick(&["mixed", "related", "form-data-x"])), "aaa", "aaa"),
    };
    let form = |boundary: &str, model: &str| {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--{boundary}--\r\n")
    };
    let body = format!("{}{}", form(short, model), if chance.one_in(2) { form(whole, other) } else { String::new() });
    refused(chance, path, &content_type, "", &body)
}

/// Forms with parts that are none, or are named otherwise, for another reader.
fn parts(chance: &mut Chance, path: &str, model: &str, other: &str) -> Request {
    let first = part("model", model);
    let second = part("model", other);
    let headed = |head: &str| format!("--aaa\r\n{head}\r\n\r\n{other}\r\n");
    let whole = match chance.below(30) {
        0 => format!("{}{first}--aaa--\r\n", second.replace("--aaa\r\n", "--aaa\n")),
        1 => format!("{}\n{second}{first}--aaa--\r\n", part("x", "hello").trim_end()),
        2 => format!(
            "{}\n--aaa\n{}{first}--aaa--\r\n",
            part("x", "hello").trim_end(),
            &second[7..].replace("\r\n", "\n")
        ),
        3 => format!("{}\r--aaa\r{first}--aaa--\r\n", part("x", "hello").trim_end()),
        4 => format!("{first}--aaa--\r\n{second}--aaa--\r\n"),
        5 => format!("{first}--aaa--\n{second}"),
        6 => format!("{first}--aaa--\r\nname=\"model\""),
        7 => format!("{first}--aaa-- \r\n{second}--aaa--\r\n"),
        8 => format!("{first}--aaa \r\n{}--aaa--\r\n", &second[7..]),
        9 => format!("{first}{second}--aaa--\r\n"),
        10 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"model\"; filename=\"m\"")),
        11 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; filename=\"m\"; name=\"model\"")),
        12 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"x\"; name=\"model\"")),
        13 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=x; name*=utf-8''model")),
        14 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"model[]\"")),
        15 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"mod%65l\"")),
        16 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\" model\"")),
        17 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"Model\"")),
        18 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data;\r\n\tname=\"model\"")),
        19 => format!(
            "{first}{}--aaa--\r\n",
            headed("Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"")
        ),
        20 => format!(
            "{first}{}--aaa--\r\n",
            headed("Content-Disposition: form-data; name=\"x\"; filename=\"\\\"; name=\\\"model\"")
        ),
        21 => format!(
            "{first}{}--aaa--\r\n",
            headed("Content-Disposition: form-data; name=\"x\"; filename=\"a; name=model\"")
        ),
        22 => format!("{}{first}--aaa--\r\n", part("_charset_", "utf-16")),
        23 => format!(
            "{}--aaa--\r\n",
            headed("Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-7")
        ),
        24 => format!(
            "{}--aaa--\r\n",
            headed("Content-Disposition: form-data; name=\"model\"\r\nContent-Type: application/json")
        ),
        25 => format!("{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"model\"\r\nContent-Length: 1")),
        26 => format!(
            "{first}{}--aaa--\r\n",
            headed("Content-Disposition: form-data; name=\"x\"\r\nContent-Encoding: gzip")
        ),
        27 => format!("{first}{}--aaa--\r\n", headed("Content-Disposition: form-data; name=\"x\"\r\nX: y\x0bz: 1")),
        28 => format!("\r\n{first}--aaa--\r\n"),
        _ => format!("{first}--aaab\r\n{}--aaa--\r\n", &second[7..]),
    };
    refused(chance, path, PARTS, "", &whole)
}
