//! What the families of several files are made of: a gauge with a fraction, and the labels of a server.
//!
//! Called by `metrics`, `live_metrics` and `vip_metrics`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;

/// A gauge with a fraction.
pub(super) type Float = Gauge<f64, AtomicU64>;

/// The labels of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ServerLabels {
    pub(super) backend: String,
    pub(super) server: String,
}
