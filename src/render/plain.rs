//! JSON that is read by HAProxy's rules alone, as an expression that takes nothing else.
//!
//! **Source**: RFC 8259, without `\u`; UTF-8 by RFC 3629. Nothing in it goes back, so that the time is linear; where a body
//! is nested too deeply for the expression's stack, it does not match.

/// Of a JSON object with at least one member, from the first byte of the body to the last one.
pub(super) fn json_object() -> String {
    const BLANKS: &str = r"[ \t\r\n]*+";
    const NUMBER: &str = r"-?(?>0|[1-9][0-9]*+)(?>\.[0-9]++)?(?>[eE][+-]?[0-9]++)?";
    let pieces = [
        r"[\x20\x21\x23-\x5b\x5d-\x7e]++",
        r"[\xc2-\xdf][\x80-\xbf]",
        r"[\xe0-\xef][\x80-\xbf]{2}",
        r"[\xf0-\xf4][\x80-\xbf]{3}",
        r#"\\["\\/bfnrt]"#,
    ];
    let text = format!("(?<s>\"(?>{})*+\")", pieces.join("|"));
    let list = |item: &str| format!("{item}{BLANKS}(?>,{BLANKS}{item}{BLANKS})*+");
    let (members, items) = (list("(?&m)"), list("(?&v)"));
    let value =
        format!(r"(?<v>(?>(?&s)|\{{{BLANKS}(?>{members})?\}}|\[{BLANKS}(?>{items})?\]|{NUMBER}|true|false|null))");
    let member = format!("(?<m>(?&s){BLANKS}:{BLANKS}(?&v))");
    format!(r"(?(DEFINE){text}{value}{member})^\{{{BLANKS}{members}\}}\z")
}
