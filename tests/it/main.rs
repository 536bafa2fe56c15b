<<<<<<< HEAD
//! The one integration binary: one module per subject, and what they share in `support`.

mod deny;
mod floors;
mod house;
mod support;
=======
//! The one integration binary: each module is a subject.

mod admin;
mod private_haproxy;
>>>>>>> io
