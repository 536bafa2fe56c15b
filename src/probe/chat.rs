//! `chat`: one streamed completion, with deadlines for the first token, for silence and for the whole.

use super::asking::{Answer, Asking, MAX_BODY, bad, content_type, plain_text, without_api};
use super::classify::ProbeVerdict;
use super::completion::{Completion, Progress};
use super::dialect::Spelling;
use super::exchange::{next_piece, read_up_to};
use super::frames::FrameParser;
use super::sse::{SseEvent, SseParser};
use crate::config::ChatProbe;
use crate::health::{Outcome, Phase};
use crate::model::ChatApi;
use tokio::time::{Instant, timeout_at};

pub(super) async fn probe(mut asking: Asking<'_>, probe: &ChatProbe) -> Result<String, ProbeVerdict> {
    let provider = asking.target.provider.clone();
    let api = provider.chat.as_ref().ok_or_else(|| without_api("completions"))?;
    let path = asking.target.api_path(&api.path, &probe.model);
    let mut spelling = Spelling::of(api);
    // Two spellings of one parameter and one that may be left out: three refusals at most.
    for last in [false, false, true] {
        let body = Some(spelling.body(probe));
        let mut answer = asking.ask(&path, spelling.accept(), body, Some(probe.first_token)).await?;
        if answer.response.status().is_success() {
            return stream(asking, answer, probe, api).await;
        }
        let status = answer.response.status().as_u16();
        let (verdict, text) = asking.refusal(&mut answer.response).await;
        match spelling.instead(&text).filter(|_| matches!(status, 400 | 422) && !last) {
            Some(other) => spelling = other,
            None => return Err(verdict),
        }
    }
    Err(ProbeVerdict::new(Outcome::ProbeConfig, "the server refuses every spelling of the request"))
}

/// The framing of a stream.
enum Frames {
    Sse(SseParser),
    Amazon(FrameParser),
}

impl Frames {
    fn of(content_type: &str) -> Self {
        match content_type.starts_with("application/vnd.amazon.eventstream") {
            true => Self::Amazon(FrameParser::default()),
            false => Self::Sse(SseParser::default()),
        }
    }

    /// The events that a piece completes, or at the end those that were left open.
    fn feed(&mut self, piece: Option<&[u8]>) -> Result<Vec<SseEvent>, ProbeVerdict> {
        let read = match (self, piece) {
            (Self::Sse(parser), Some(piece)) => parser.feed(piece).map_err(|e| e.to_string()),
            (Self::Sse(parser), None) => parser.finish().map(Vec::from_iter).map_err(|e| e.to_string()),
            (Self::Amazon(parser), Some(piece)) => parser.feed(piece),
            (Self::Amazon(parser), None) => parser.finish().map(|()| Vec::new()),
        };
        read.map_err(|why| bad(format!("not a stream of events: {why}")))
    }
}

/// Reads the stream of a completion.
async fn stream(
    asking: Asking<'_>,
    mut answer: Answer,
    probe: &ChatProbe,
    api: &ChatApi,
) -> Result<String, ProbeVerdict> {
    let (seen, sent) = (asking.seen, answer.sent);
    let response = &mut answer.response;
    plain_text(response)?;
    let mut completion = Completion::new(api.dialect);
    let first_by = sent + probe.first_token;
    if content_type(response).starts_with("application/json") {
        let mut body = Vec::new();
        let late = |_| ProbeVerdict::new(Outcome::Timeout(Phase::FirstToken), "no whole completion");
        if !timeout_at(first_by, read_up_to(response.body_mut(), MAX_BODY, &mut body)).await.map_err(late)?? {
            return Err(bad("the completion is longer than 1 MiB"));
        }
        completion.whole(&body)?;
        seen.first_token = Some(sent.elapsed());
        seen.tokens = completion.tokens();
        return completion.judge(&probe.model, api);
    }
    let mut frames = Frames::of(content_type(response));
    let mut deadline = first_by;
    let mut size = 0;
    loop {
        let piece = match timeout_at(deadline, next_piece(response.body_mut())).await {
            Ok(piece) => piece?,
            Err(_) if seen.first_token.is_none() => {
                let detail = format!("no token within {} ms", probe.first_token.as_millis());
                return Err(ProbeVerdict::new(Outcome::Timeout(Phase::FirstToken), detail));
            }
            Err(_) => {
                let detail = format!("the stream fell silent for {} ms", probe.stall.as_millis());
                return Err(ProbeVerdict::new(Outcome::Timeout(Phase::Stall), detail));
            }
        };
        let ended = piece.is_none();
        let events = frames.feed(piece.as_deref())?;
        size += piece.map_or(0, |piece| piece.len());
        for event in events {
            let progress = completion.event(&event);
            seen.tokens = completion.tokens();
            let progress = progress?;
            if progress == Progress::Token && seen.first_token.is_none() {
                seen.first_token = Some(sent.elapsed());
                seen.phase = Phase::Total;
            }
            if progress == Progress::Done {
                return completion.judge(&probe.model, api);
            }
            if seen.first_token.is_some() && progress != Progress::Idle {
                deadline = Instant::now() + probe.stall;
            }
        }
        if ended {
            return completion.judge(&probe.model, api);
        }
        if size > MAX_BODY {
            return Err(bad("the stream is longer than 1 MiB"));
        }
    }
}
