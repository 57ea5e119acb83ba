//! Figures: each program in `src/bin` measures one thing beside something comparable, and prints
//! ratios. Nothing depends on this crate, and no test asserts a time.
//!
//! Owns what programs that measure growth are told.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// What a program that measures at several sizes was told.
#[derive(Debug)]
pub struct Arguments {
    /// The directory in which it works.
    pub base: PathBuf,
    /// The sizes.
    pub sizes: Vec<u64>,
    /// Whether it prints JSON.
    pub as_json: bool,
}

impl Arguments {
    /// Reads `[--json] [OPTION N,N,…] [DIR]`; without the option it is the usual sizes.
    pub fn read(option: &str, usual: &[u64]) -> Result<Self> {
        let mut read = Self { base: PathBuf::from("."), sizes: Vec::new(), as_json: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            if argument == "--json" {
                read.as_json = true;
            } else if argument == option {
                let sizes = arguments.next().with_context(|| format!("{option} needs numbers"))?;
                for size in sizes.split(',') {
                    let size = size.parse().with_context(|| format!("{size} is not a number"))?;
                    read.sizes.push(size);
                }
            } else if argument.starts_with('-') {
                bail!("{argument} is not known");
            } else {
                read.base = argument.into();
            }
        }
        if read.sizes.is_empty() {
            read.sizes = usual.to_vec();
        }
        Ok(read)
    }
}
