//! Every file, process and socket operation of a real `hapilot apply` fails once, fails for ever, or is the last thing
//! that the process does. Afterwards the live files are whole, HAProxy serves, and the next apply mends everything.
//!
//! The points are those that an apply passes by itself (see `hapilot::sys::fault`). By default a sample of them is
//! tried; `HAPILOT_TEST_FAULTS=full` tries all on the first HAProxy. The test binary and the product are debug builds:
//! only those have points.

mod crash;
mod edit;
mod matrix;
