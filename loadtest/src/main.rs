//! The `tidegate-loadtest` command. All of its work is in the library; this file only hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate_loadtest::main()
}
