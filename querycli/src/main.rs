//! The program. `querycli::cli` has the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    querycli::cli::main()
}
