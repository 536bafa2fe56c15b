//! The one integration binary: each module is a subject.

mod admin;
mod private_haproxy;
