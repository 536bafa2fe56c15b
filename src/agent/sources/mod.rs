//! Everything that is read before a decision: the operator's file, templates, secrets, certificates.

mod alert_secrets;
pub(super) mod callers;
pub(super) mod certificate_checks;
pub(super) mod certificate_news;
pub(super) mod certificates;
pub(super) mod key_texts;
pub(super) mod place;
mod standing;
pub(super) mod trust;
pub(super) mod unread;
