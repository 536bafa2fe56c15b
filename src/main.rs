//! The thin binary: everything is in the library.

use std::process::ExitCode;

/// A rendering and a look at thousands of servers are hundreds of thousands of small allocations: a quarter of the
/// agent's time with the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hapilot::cli::main()
}
