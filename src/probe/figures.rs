//! `metrics`: how busy a server says it is.

use super::asking::{Asking, MAX_BODY, bad, plain_text};
use super::classify::ProbeVerdict;
use super::exchange::read_up_to;
use super::prometheus::samples;
use crate::config::MetricsProbe;
use crate::health::{Load, Outcome, Phase};

pub(super) async fn probe(asking: Asking<'_>, probe: &MetricsProbe) -> Result<String, ProbeVerdict> {
    let Asking { target, trust, connect, seen } = asking;
    let there = probe.port.map(|port| target.at_port(port));
    let mut asking = Asking { target: there.as_ref().unwrap_or(target), trust, connect, seen };
    let mut answer = asking.ask(&probe.path, "text/plain", None, None).await?;
    asking.seen.phase = Phase::Total;
    if !answer.response.status().is_success() {
        return Err(asking.refusal(&mut answer.response).await.0);
    }
    plain_text(&answer.response)?;
    let mut body = Vec::new();
    let is_whole = read_up_to(answer.response.body_mut(), MAX_BODY, &mut body).await?;
    if !is_whole {
        // The last line may be half a number.
        body.truncate(body.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
    }
    let (load, detail) = load_in(probe, &String::from_utf8_lossy(&body)).map_err(|why| match is_whole {
        true => bad(why),
        // Our own limit, and not the server's fault.
        false => ProbeVerdict::new(Outcome::ProbeConfig, format!("{why} in the first MiB, and no more is read")),
    })?;
    asking.seen.load = Some(load);
    Ok(detail)
}

/// The load, and a line for people.
fn load_in(probe: &MetricsProbe, text: &str) -> Result<(Load, String), String> {
    // A queue per model, engine or adapter: they wait for the same cores.
    let waiting = probe.waiting.iter().find_map(|name| samples(text, name).reduce(|sum, one| sum + one));
    let Some(waiting) = waiting.filter(|waiting| waiting.is_finite()) else {
        return Err(format!("the metrics have no usable {}", probe.waiting.join(" or ")));
    };
    // The fullest of several caches is the one that makes requests wait.
    let cache = probe.cache.iter().find_map(|name| samples(text, name).reduce(f64::max));
    let cache = cache.map(|cache| cache.min(1.0));
    let detail = match cache {
        Some(cache) => format!("{waiting} waiting, {:.0} % of the cache in use", cache * 100.0),
        None => format!("{waiting} waiting"),
    };
    Ok((Load { waiting, cache }, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(waiting: &[&str], cache: &[&str]) -> MetricsProbe {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        MetricsProbe { path: "/metrics".into(), port: None, waiting: owned(waiting), cache: owned(cache) }
    }

    #[test]
    fn queues_add_up_and_the_fullest_cache_counts() {
        let text =
            "# HELP w x\nw{engine=\"0\"} 2\nw{engine=\"1\"} 3.0\nc{engine=\"0\"} 0.25\nc{engine=\"1\"} 0.75\nold 9\n";
        let (load, detail) = load_in(&probe(&["w"], &["none", "c"]), text).unwrap();
        assert_eq!(load, Load { waiting: 5.0, cache: Some(0.75) });
        assert_eq!(detail, "5 waiting, 75 % of the cache in use");
        assert_eq!(load_in(&probe(&["new", "old"], &[]), text).unwrap().0, Load { waiting: 9.0, cache: None });
        assert!(load_in(&probe(&["absent"], &["c"]), text).is_err());
        assert!(load_in(&probe(&["w"], &[]), "w NaN\nw -1\n").is_err());
        assert!(load_in(&probe(&["w"], &[]), "w 1.7e308\nw 1.7e308\n").is_err());
    }
}
