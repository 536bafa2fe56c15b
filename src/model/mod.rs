//! The words of the product: checked once, when they are made, and then passed around without doubt.
//!
//! Knows no clock, no file, no HAProxy and no TOML. Everybody calls it.

mod along;
mod balance;
mod certificate;
mod digest;
mod duration;
mod endpoint;
mod moment;
mod name;
mod network;
mod origin;
mod pattern;
mod profile;
mod provider;
mod rate;
mod retry_after;
mod secret;
mod size;
mod state;
mod trust;
mod visible;
mod vrrp;
mod weight;

pub use along::Along;
pub use balance::{Affinity, Balance};
pub use certificate::{CERTIFICATES, Certificate, PrivatePem};
pub use digest::Digest;
pub use duration::{format_duration, parse_duration};
pub use endpoint::{BindAddress, BindHost, Endpoint, Host, Scheme};
pub use moment::Moment;
pub use name::{Name, ServerId};
pub use network::{Interface, InterfaceAddress};
pub use origin::{Origin, Sourced};
pub use pattern::Pattern;
pub use profile::{
    ChatApi, Dialect, EmbeddingsApi, ErrorWords, HttpApi, KEY_HEADERS, LimitSigns, MetricsApi, ModelsApi,
    PUT_IN_HEADERS, Profile, TELLING_HEADERS,
};
pub use provider::Provider;
pub use rate::Rate;
pub use retry_after::{MAX_RETRY_AFTER, retry_after_value};
pub use secret::{KEY_STARTS, Secret, SecretRef, looks_like_key};
pub use size::parse_size;
pub use state::{AdminState, OperState};
pub use trust::{TRUST, TrustFile, TrustItem, TrustKind};
pub use visible::{visible, visible_in_colors};
pub use vrrp::VrrpState;
pub use weight::Weight;

/// A value was refused by one of the constructors of this module.
///
/// Its text names the limit that was broken and, where there is one, the form that is right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
