//! The k-mer spectrum of a genome; the command line of it.
//!
//! Input `genome` (FASTA, plain or gzip); artifacts `spectrum.txt` and `histogram.txt`. See
//! `docs/guests.md`.

use std::{path::PathBuf, process::ExitCode};

use hackbrain::{Flags, Live};
use kmer::{Places, Settings, Summary};

fn main() -> ExitCode {
    match settings().and_then(|settings| count(&settings).map_err(|error| error.to_string())) {
        Ok(summary) => {
            println!("distinct {}", summary.distinct);
            println!("unique {}", summary.unique);
            println!("total {}", summary.total);
            println!("highest count {}", summary.highest_count);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("kmer: {message}");
            ExitCode::FAILURE
        }
    }
}

fn count(settings: &Settings) -> Result<Summary, kmer::Error> {
    let places = Places {
        input: PathBuf::from("/in/genome"),
        job: PathBuf::from("/job"),
        out: PathBuf::from("/out"),
    };
    kmer::run(&mut Live, &places, settings)
}

fn settings() -> Result<Settings, String> {
    let read = || {
        let flags = Flags::parse(std::env::args().skip(1), &["-k", "--buffer", "--fan-in"])?;
        let default = Settings::default();
        let settings = Settings {
            k: flags.get("-k", default.k, "a whole number from 1 to 31")?,
            buffer_kmers: flags.get("--buffer", default.buffer_kmers, "a number of k-mers")?,
            fan_in: flags.get("--fan-in", default.fan_in, "a number of runs")?,
        };
        Ok((settings, flags.rest))
    };
    let (settings, rest) = read().map_err(|error: hackbrain::FlagError| error.to_string())?;
    match rest.first() {
        None => Ok(settings),
        Some(extra) => Err(format!(
            "{extra:?} is not understood: the genome is the input named genome, and the flags are -k, --buffer and --fan-in"
        )),
    }
}
