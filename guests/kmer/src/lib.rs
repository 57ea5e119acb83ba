//! The k-mer spectrum of a genome: how often each word of k letters occurs, a word and its
//! reverse complement taken as one.
//!
//! Owns the logic of the job, apart from the host's interfaces and the command line: reading,
//! counting by an external sort, merging, and the state between. Memory is bounded by the
//! settings, whatever the genome's size. Everything that it writes is a function of the input
//! and the settings; when checkpoints fall due has no influence on it.
//!
//! The three phases, in each of which a checkpoint can be made at the loop's top:
//!
//! 1. *count*: the input is read in blocks of fixed length; k-mers gather in a buffer; a full
//!    buffer is sorted, collapsed and written as an immutable run below `/job`;
//! 2. *merge*: while there are more runs than may be open at once, the oldest are merged into
//!    a new one;
//! 3. *write*: the last merge streams the spectrum out.

mod error;
mod fasta;
mod input;
mod merge;
mod run;
mod spectrum;
mod state;
mod window;

use std::{fs, path::PathBuf};

use hackbrain::Host;

pub use crate::{
    error::Error,
    fasta::FastaError,
    spectrum::Summary,
    state::{MAX_K, StateError},
};
use crate::{
    input::Input,
    merge::Merge,
    run::RunWriter,
    spectrum::SpectrumWriter,
    state::{Phase, State},
};

/// Bytes of input between two chances for a checkpoint, at most.
const BLOCK_BYTES: usize = 64 * 1024;
/// K-mers merged between two chances for a checkpoint.
const MERGED_PER_TURN: u64 = 16 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Letters of a k-mer, 1 to 31.
    pub k: u32,
    /// K-mers that are held in memory before they are sorted; 8 bytes each.
    pub buffer_kmers: usize,
    /// Runs that are merged, and so open, at once; at least 2.
    pub fan_in: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { k: 21, buffer_kmers: 512 * 1024, fan_in: 64 }
    }
}

impl Settings {
    /// Refuses what cannot be counted.
    pub fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_K).contains(&self.k) {
            return Err(Error::BadK { found: self.k });
        }
        if self.buffer_kmers == 0 || self.buffer_kmers > 1 << 28 {
            return Err(Error::BadBuffer { found: self.buffer_kmers });
        }
        if !(2..=100).contains(&self.fan_in) {
            return Err(Error::BadFanIn { found: self.fan_in });
        }
        Ok(())
    }
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The genome.
    pub input: PathBuf,
    /// The job's own directory.
    pub job: PathBuf,
    /// Where the artifacts go.
    pub out: PathBuf,
}

impl Places {
    fn run(&self, number: u64) -> PathBuf {
        self.job.join(format!("run-{number:06}"))
    }
}

/// Runs the job from the newest checkpoint, or from the beginning, to its end.
pub fn run(host: &mut impl Host, places: &Places, settings: &Settings) -> Result<Summary, Error> {
    // First of all: it puts the files back.
    let restored = host.restore();
    settings.check()?;
    let mut state = match restored {
        Some(snapshot) => State::decode(&snapshot.state, settings)?,
        None => State::new(settings),
    };
    if state.phase == Phase::Count {
        count(host, places, settings, &mut state)?;
        state.begin_merging();
    }
    while state.runs() > settings.fan_in as u64 {
        merge(host, places, settings, &mut state)?;
    }
    write(host, places, settings, &mut state)
}

/// Phase 1: from the input to sorted runs.
fn count(
    host: &mut impl Host,
    places: &Places,
    settings: &Settings,
    state: &mut State,
) -> Result<(), Error> {
    let mut input = Input::open(&places.input)?;
    input.skip(state.input_bytes)?;
    let block_bytes = BLOCK_BYTES.min(settings.buffer_kmers);
    let mut block = vec![0; block_bytes];
    let mut kmers = std::mem::take(&mut state.buffer);
    kmers.reserve_exact(settings.buffer_kmers - kmers.len());
    loop {
        // Read ahead: at the end of the input the next phase asks whether a checkpoint is due, and
        // a step must not stand for two places. What was read counts only when it is taken in.
        let length = input.fill(&mut block)?;
        if length == 0 {
            break;
        }
        if host.due(state.step) {
            let encoded = state.encode(settings, &kmers);
            host.save(state.step, &encoded);
        }
        // A byte completes at most one k-mer, so the buffer cannot grow beyond its bound.
        if kmers.len() + length > settings.buffer_kmers {
            write_run(host, places, state, &mut kmers)?;
        }
        state.parser.feed(&block[..length], |code| match code {
            Some(code) => {
                if let Some(kmer) = state.window.push(code) {
                    kmers.push(kmer);
                }
            }
            None => state.window.clear(),
        })?;
        state.input_bytes += length as u64;
        state.step += length as u64;
        // Each byte is read once and completes at most one k-mer, which is written once.
        host.report(state.step, input.length_bytes().map(|length| 2 * length));
    }
    state.parser.finish()?;
    write_run(host, places, state, &mut kmers)?;
    host.metric("records", exact(state.parser.records));
    host.metric("input_bytes", exact(state.input_bytes));
    Ok(())
}

/// Sorts and collapses what is held, writes it as a run, and leaves the buffer empty.
fn write_run(
    host: &mut impl Host,
    places: &Places,
    state: &mut State,
    kmers: &mut Vec<u64>,
) -> Result<(), Error> {
    if kmers.is_empty() {
        return Ok(());
    }
    kmers.sort_unstable();
    let mut writer = RunWriter::create(&places.run(state.next_run))?;
    for equal in kmers.chunk_by(|left, right| left == right) {
        writer.put(equal[0], equal.len() as u64)?;
    }
    writer.flush()?;
    state.next_run += 1;
    state.total += kmers.len() as u64;
    kmers.clear();
    host.metric("runs_written", exact(state.next_run));
    host.metric("kmers_counted", exact(state.total));
    Ok(())
}

/// Phase 2: the oldest runs become one new run at the end of the queue.
fn merge(
    host: &mut impl Host,
    places: &Places,
    settings: &Settings,
    state: &mut State,
) -> Result<(), Error> {
    let inputs = state.first_run..state.first_run + settings.fan_in as u64;
    let mut merge = Merge::open(inputs.clone(), places, &state.cursors)?;
    let mut writer =
        RunWriter::resume(&places.run(state.next_run), state.output_bytes, state.last_kmer)?;
    loop {
        if host.due(state.step) {
            state.cursors = merge.cursors();
            (state.output_bytes, state.last_kmer) = (writer.flush()?, writer.last_kmer());
            let encoded = state.encode(settings, &[]);
            host.save(state.step, &encoded);
        }
        for _ in 0..MERGED_PER_TURN {
            let Some((kmer, count)) = merge.next()? else {
                writer.flush()?;
                drop(merge);
                for number in inputs.clone() {
                    let path = places.run(number);
                    fs::remove_file(&path).map_err(|source| Error::files(&path, source))?;
                }
                state.first_run = inputs.end;
                state.next_run += 1;
                state.begin_merging();
                // The next phase starts at a step of its own, also where this one ended with a turn.
                state.step += 1;
                host.metric("runs_written", exact(state.next_run));
                return Ok(());
            };
            writer.put(kmer, count)?;
            state.step += 1;
        }
    }
}

/// Phase 3: all runs that are left become the spectrum.
fn write(
    host: &mut impl Host,
    places: &Places,
    settings: &Settings,
    state: &mut State,
) -> Result<Summary, Error> {
    let mut merge = Merge::open(state.first_run..state.next_run, places, &state.cursors)?;
    let mut spectrum = SpectrumWriter::resume(
        &places.out.join("spectrum.txt"),
        settings.k,
        state.output_bytes,
        std::mem::take(&mut state.histogram),
    )?;
    let total = Some(state.input_bytes + state.total);
    loop {
        if host.due(state.step) {
            state.cursors = merge.cursors();
            state.output_bytes = spectrum.flush()?;
            state.histogram.clone_from(spectrum.histogram());
            let encoded = state.encode(settings, &[]);
            host.save(state.step, &encoded);
        }
        for _ in 0..MERGED_PER_TURN {
            let Some((kmer, count)) = merge.next()? else {
                spectrum.flush()?;
                let path = places.out.join("histogram.txt");
                fs::write(&path, spectrum.histogram_text())
                    .map_err(|source| Error::files(&path, source))?;
                host.report(state.input_bytes + state.total, total);
                return Ok(spectrum.summary());
            };
            spectrum.put(kmer, count)?;
            state.step += 1;
            state.written += count;
        }
        host.report(state.input_bytes + state.written, total);
    }
}

/// A count as a metric's value.
#[allow(clippy::cast_precision_loss, reason = "counts above 2^53 have no place in a dashboard")]
fn exact(count: u64) -> f64 {
    count as f64
}
