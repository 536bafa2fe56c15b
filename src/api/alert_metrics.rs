//! Who is told what happens, as Prometheus reads it.

use super::wire::AlertSink;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
    kind: String,
}

/// None where the file tells nobody.
pub(super) fn register_alerts(registry: &mut Registry, sinks: &[AlertSink]) {
    if sinks.is_empty() {
        return;
    }
    let (sent, failed) = (Family::<SinkLabels, Counter>::default(), Family::<SinkLabels, Counter>::default());
    let dropped = Family::<SinkLabels, Counter>::default();
    let (waiting, open) = (Family::<SinkLabels, Gauge>::default(), Family::<SinkLabels, Gauge>::default());
    let delivers = Family::<SinkLabels, Gauge>::default();
    for sink in sinks {
        let label = SinkLabels { sink: sink.name.clone(), kind: sink.kind.clone() };
        sent.get_or_create(&label).inc_by(sink.sent);
        failed.get_or_create(&label).inc_by(sink.failed);
        dropped.get_or_create(&label).inc_by(sink.dropped);
        waiting.get_or_create(&label).set(i64::try_from(sink.waiting).unwrap_or(i64::MAX));
        open.get_or_create(&label).set(i64::try_from(sink.open).unwrap_or(i64::MAX));
        delivers.get_or_create(&label).set(sink.problem.is_none().into());
    }
    registry.register("alert_sent", "Notifications that a sink took since the agent's start", sent);
    registry.register("alert_failed", "Tries to deliver one that failed since the agent's start", failed);
    registry.register("alert_dropped", "Notifications that were dropped for want of room", dropped);
    registry.register("alert_waiting", "Notifications that wait for a sink", waiting);
    registry.register("alert_open", "Matters that a sink was told and that are not over", open);
    registry.register("alert_delivers", "0 while a sink does not deliver", delivers);
}
