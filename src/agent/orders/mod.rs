//! A change while it is under way: what it is to lead to, what the engine is told, what is written down of it.

pub(super) mod arming;
pub(super) mod books;
pub(super) mod change;
pub(super) mod goal;
pub(super) mod order;
