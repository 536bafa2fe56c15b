//! The one integration binary: real sockets, the library's public face.

mod probe;
