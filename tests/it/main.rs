//! The integration tests: one binary.

mod cases;
mod haproxies;
mod provenance;
mod quoting;
mod sample;
mod structure;
mod traffic;
