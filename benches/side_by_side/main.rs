//! oxen-sync beside what a user would pick instead, on this machine: `benches/compare`.
//!
//! Each row runs its contenders in turn, several times, and prints the medians and how they compare. Every goal stands in
//! the row that it belongs to.

mod contest;
mod peers;
mod rows;
mod server;
mod service;
mod trees;

use std::path::Path;
use std::process::ExitCode;

use contest::Bench;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let [word, folder, state_dir] = &words[..]
        && word == rows::first::CHILD
    {
        return look(folder.as_ref(), state_dir.as_ref());
    }
    let mut runs = 5;
    let mut names = Vec::new();
    // Cargo passes `--bench` by itself.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => match words.next().and_then(|runs| runs.parse().ok()) {
                Some(wanted) => runs = wanted,
                None => return usage(),
            },
            name if rows::ALL.iter().any(|row| row.name == name) => names.push(word),
            _ => return usage(),
        }
    }
    let mut bench = match Bench::new(runs) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}\n", bench.machine());
    for row in rows::ALL {
        if names.is_empty() || names.iter().any(|name| name == row.name) {
            println!("## {}: {}\n   goal: {}", row.name, row.what, row.goal);
            if let Err(error) = (row.run)(&mut bench) {
                eprintln!("   {error}");
                return ExitCode::FAILURE;
            }
            println!();
        }
    }
    ExitCode::SUCCESS
}

fn look(folder: &Path, state_dir: &Path) -> ExitCode {
    let looked = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(rows::first::look(folder, state_dir)));
    match looked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: benches/compare [--runs N] [ROW…]\nrows:");
    for row in rows::ALL {
        eprintln!("  {:<10} {}", row.name, row.what);
    }
    ExitCode::from(2)
}
