//! The thin binary: hand the arguments to the command line, end as it says.

use std::process::ExitCode;

fn main() -> ExitCode {
    kptrace::cli::main()
}
