//! What a line tells the ledger of usage.

use super::callers::Tokens;
use super::line::Line;
use crate::usage::{Amounts, Hour, LineId, Told, UsageKey};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

/// `None`: the line does not say which request it is about, and so cannot be counted once.
pub(super) fn told(line: &Line<'_>) -> Option<Told> {
    let request = line.request?;
    let at: Timestamp = request.at.parse().ok()?;
    let caller = line.caller.filter(|caller| caller.refused.is_none());
    let used = caller.and_then(|caller| {
        let (client, plan) = (caller.client?.to_owned(), caller.plan.unwrap_or_default().to_owned());
        let server = if line.place.ends_with("/<NOSRV>") { String::new() } else { line.place.to_owned() };
        let model = percent_decode_str(request.model).decode_utf8_lossy().into_owned();
        Some((UsageKey { client, plan, server, model }, amounts(line.tokens)))
    });
    Some(Told { line: LineId { at: request.at.to_owned(), request: request.number }, hour: Hour::of(at), used })
}

fn amounts(tokens: Option<Tokens>) -> Amounts {
    let Some(Tokens { prompt, cached, written, completion, is_estimated, nano_usd }) = tokens else {
        return Amounts { requests: 1, ..Amounts::default() };
    };
    let unpriced = if nano_usd.is_none() { prompt.saturating_add(completion) } else { 0 };
    Amounts {
        requests: 1,
        counted: 1,
        estimated: u64::from(is_estimated),
        prompt,
        cached,
        written,
        completion,
        nano_usd: nano_usd.unwrap_or(0),
        late_nano_usd: 0,
        unpriced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_request_of_a_client_and_its_model_is_spelt_as_it_was_asked_for() {
        let line = |rest: &str| {
            format!(
                "<134>1 2026-11-30T17:15:44.046909+00:00 - haproxy 543 - [hapilot@0 live=\"api 7 chat/a 200 -- 0 0 2 30 \
                 41 512 k1 25 - - -\" upload=\"0 1/2\"{rest}]"
            )
        };
        let text =
            line(" client=\"acme free -\" tokens=\"100 40 5 exact 10 1234\" usage=\"77 open%2Fgpt-4o%22\" tries=\"-\"");
        let parsed = Line::parse(text.as_bytes()).unwrap().unwrap();
        let Told { line: id, hour, used } = told(&parsed).unwrap();
        assert_eq!((id.request, id.at.as_str()), (77, "2026-11-30T17:15:44.046909+00:00"));
        assert_eq!(hour.to_string(), "2026-11-30T17");
        let (key, amounts) = used.unwrap();
        assert_eq!((key.client.as_str(), key.server.as_str(), key.model.as_str()), ("acme", "chat/a", "open/gpt-4o\""));
        assert_eq!((amounts.prompt, amounts.written, amounts.nano_usd, amounts.unpriced), (100, 10, 1234, 0));
        assert_eq!(parsed.tries, Some("-"));
        for (rest, is_told, is_used) in [
            (" client=\"acme free -\" tokens=\"- - - - - -\" usage=\"78 -\"", true, true),
            (" client=\"acme free budget\" usage=\"78 m\"", true, false),
            (" client=\"- - key\" usage=\"78 m\"", true, false),
            (" client=\"acme free -\" usage=\"x m\"", false, false),
            (" client=\"acme free -\"", false, false),
        ] {
            let text = line(rest);
            let told = told(&Line::parse(text.as_bytes()).unwrap().unwrap());
            assert_eq!(told.is_some(), is_told, "{rest}");
            assert_eq!(told.is_some_and(|told| told.used.is_some()), is_used, "{rest}");
        }
    }
}
