//! The one integration binary: one module per subject, and what they share in `support`.

mod deny;
mod floors;
mod house;
mod support;
