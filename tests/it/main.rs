//! The integration tests: one binary.

mod cases;
mod haproxies;
mod quoting;
mod sample;
mod traffic;
