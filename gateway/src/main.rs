//! The `tidegate` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

// Many small allocations on few threads: measured faster than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
