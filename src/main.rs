//! The program; everything it does is in the library.

use clap::Parser;
use oxen_sync::cli::{self, Cli, Exit};
use tikv_jemallocator::Jemalloc;

/// Gives back what was used for a moment. The system's own keeps it, for each thread apart, and months of that add up.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> Exit {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("oxen-sync: cannot start: {error}");
            return Exit::Failure;
        }
    };
    let exit = runtime.block_on(cli::main(cli));
    // A read from a filesystem that hangs must not hold up the end.
    runtime.shutdown_background();
    exit
}
