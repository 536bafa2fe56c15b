//! The one integration binary: one module per subject, and what they share in `support`.

mod admin;
mod bad;
mod cases;
mod deny;
mod docs;
mod faults;
mod floors;
mod haproxies;
mod house;
mod private_haproxy;
mod probe;
mod proof;
mod provenance;
mod quoting;
mod sample;
mod site;
mod structure;
mod support;
mod traffic;
