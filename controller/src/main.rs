//! The `gma` command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = gma::args::Args::parse();
    match gma::run::main(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gma: {error:#}");
            ExitCode::FAILURE
        }
    }
}
