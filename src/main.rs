//! The thin binary: everything is in the library.

use std::process::ExitCode;

/// A rendering and a look at thousands of servers are hundreds of thousands of small allocations: a quarter of the
/// agent's time with the C library's allocator. Its options stand in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    hapilot::cli::main()
}
