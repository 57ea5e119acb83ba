//! Two real genomes against an independent program's figures, undisturbed and killed.
//!
//! The figures are jellyfish's; see `tests/data/README.md`.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use hackbrain::Rehearsal;
use kmer::{Places, Settings, Summary, run};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const LAMBDA: Summary =
    Summary { distinct: 48_482, unique: 48_482, total: 48_482, highest_count: 1 };
const LAMBDA_SHA256: &str = "5d58db49de9393a857dc2434f203297cf34e47ba8ebfeb54e6b194cecfdbc946";
const E_COLI: Summary =
    Summary { distinct: 4_836_681, unique: 4_789_765, total: 4_938_900, highest_count: 57 };
const E_COLI_SHA256: &str = "1c6de76297fdac1bf58f570e67286282cc14aba6dec3c5e00f5806ea187cd505";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

struct Stage {
    directory: TempDir,
    host: Rehearsal,
    places: Places,
}

impl Stage {
    fn new(input: &Path, every: u64) -> Self {
        let directory = TempDir::new().unwrap();
        let host = Rehearsal::new(directory.path(), every).unwrap();
        let places = Places { input: input.to_owned(), job: host.job(), out: host.out() };
        Self { directory, host, places }
    }

    fn write_input(&mut self, bytes: &[u8]) {
        self.places.input = self.directory.path().join("genome");
        fs::write(&self.places.input, bytes).unwrap();
    }

    fn run(&mut self, settings: &Settings) -> Result<Summary, kmer::Error> {
        self.host.attempt(None, |host| run(host, &self.places, settings)).unwrap()
    }

    fn artifact(&self, name: &str) -> Vec<u8> {
        fs::read(self.places.out.join(name)).unwrap()
    }

    fn sha256_of_spectrum(&self) -> String {
        let mut hasher = Sha256::new();
        let mut file = File::open(self.places.out.join("spectrum.txt")).unwrap();
        let mut block = vec![0; 1 << 20];
        loop {
            let length = file.read(&mut block).unwrap();
            if length == 0 {
                break;
            }
            hasher.update(&block[..length]);
        }
        hasher.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

#[test]
fn the_spectrum_of_lambda_equals_the_one_of_jellyfish() {
    let mut stage = Stage::new(&data("lambda_virus.fa"), u64::MAX);
    assert_eq!(stage.run(&Settings::default()).unwrap(), LAMBDA);
    assert_eq!(stage.sha256_of_spectrum(), LAMBDA_SHA256);
    assert_eq!(stage.artifact("histogram.txt"), b"1 48482\n");
}

#[test]
fn the_spectrum_of_e_coli_equals_the_one_of_jellyfish() {
    let mut stage = Stage::new(&data("ecoli_536.fna.gz"), u64::MAX);
    assert_eq!(stage.run(&Settings::default()).unwrap(), E_COLI);
    assert_eq!(stage.sha256_of_spectrum(), E_COLI_SHA256);
    let histogram = stage.artifact("histogram.txt");
    let expected = b"1 4789765\n2 32356\n3 4320\n4 1297\n5 600\n6 2165\n7 4031\n8 150\n";
    assert_eq!(histogram[..expected.len()], *expected);
    assert_eq!(stage.host.metrics["records"].to_bits(), 1.0_f64.to_bits());
}

#[test]
fn tiny_buffers_and_many_passes_of_merging_change_nothing() {
    for (buffer_kmers, fan_in) in [(100, 2), (997, 3), (7_000, 100), (48_483, 2)] {
        let mut stage = Stage::new(&data("lambda_virus.fa"), 3);
        let settings = Settings { buffer_kmers, fan_in, ..Settings::default() };
        assert_eq!(stage.run(&settings).unwrap(), LAMBDA, "{settings:?}");
        assert_eq!(stage.sha256_of_spectrum(), LAMBDA_SHA256, "{settings:?}");
    }
}

/// Many records, repeats, breaks and mixed line ends: 6 kB whose k-mers repeat often.
fn artificial_genome() -> Vec<u8> {
    let (mut genome, mut random) = (Vec::new(), 1_u64);
    for record in 0..30 {
        genome.extend_from_slice(format!(">record {record}\r\n").as_bytes());
        for _ in 0..200 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            genome.push(b"ACGTacgtAAAATTTTCCGN"[(random >> 33) as usize % 20]);
            if random >> 60 == 0 {
                genome.push(b'\n');
            }
        }
        genome.push(b'\n');
    }
    genome
}

/// The k-mers of `genome` counted in the most obvious way.
fn obvious_spectrum(genome: &[u8], k: usize) -> String {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    let text = String::from_utf8(genome.to_vec()).unwrap();
    for record in text.split('>').skip(1) {
        let (_, sequence) = record.split_once('\n').unwrap();
        let sequence = sequence.replace(['\r', '\n'], "").to_uppercase();
        for piece in sequence.split('N') {
            for word in piece.as_bytes().windows(k) {
                let word = String::from_utf8(word.to_vec()).unwrap();
                let complement: String = word
                    .chars()
                    .rev()
                    .map(|letter| match letter {
                        'A' => 'T',
                        'C' => 'G',
                        'G' => 'C',
                        _ => 'A',
                    })
                    .collect();
                *counts.entry(word.min(complement)).or_default() += 1;
            }
        }
    }
    let lines: Vec<String> =
        counts.iter().map(|(word, count)| format!("{word} {count}\n")).collect();
    lines.concat()
}

#[test]
fn every_length_of_word_is_counted_as_the_most_obvious_program_counts_it() {
    let genome = artificial_genome();
    for k in 1..=31 {
        let mut stage = Stage::new(Path::new(""), 5);
        stage.write_input(&genome);
        let settings = Settings { k, buffer_kmers: 500, fan_in: 4 };
        stage.run(&settings).unwrap();
        let spectrum = String::from_utf8(stage.artifact("spectrum.txt")).unwrap();
        assert_eq!(spectrum, obvious_spectrum(&genome, k as usize), "k = {k}");
    }
}

#[test]
fn a_job_killed_after_each_call_of_its_host_ends_as_if_undisturbed() {
    let settings = Settings { k: 9, buffer_kmers: 400, fan_in: 3 };
    let genome = artificial_genome();
    let mut undisturbed = Stage::new(Path::new(""), 1);
    undisturbed.write_input(&genome);
    let summary = undisturbed.run(&settings).unwrap();
    let calls = undisturbed.host.calls();
    assert!(undisturbed.host.saved() > 20, "too few checkpoints to show anything");
    for every in [1, 4] {
        for kill_at in 1..=calls {
            let mut stage = Stage::new(Path::new(""), every);
            stage.write_input(&genome);
            let first =
                stage.host.attempt(Some(kill_at), |host| run(host, &stage.places, &settings));
            if first.is_ok() {
                continue;
            }
            assert_eq!(stage.run(&settings).unwrap(), summary, "killed at {kill_at}");
            for name in ["spectrum.txt", "histogram.txt"] {
                assert!(stage.artifact(name) == undisturbed.artifact(name), "{name}, {kill_at}");
            }
            assert_eq!(stage.host.metrics, undisturbed.host.metrics, "killed at {kill_at}");
            assert_eq!(stage.host.progress, undisturbed.host.progress, "killed at {kill_at}");
        }
    }
}

#[test]
fn a_compressed_genome_killed_again_and_again_ends_as_if_undisturbed() {
    let mut stage = Stage::new(Path::new(""), 1);
    let mut compressed = Vec::new();
    // Several members, as bgzip makes them, with a cut inside a line.
    let plain = fs::read(data("lambda_virus.fa")).unwrap();
    for piece in plain.chunks(10_000) {
        let mut encoder =
            flate2::write::GzEncoder::new(&mut compressed, flate2::Compression::default());
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap();
    }
    stage.write_input(&compressed);
    let settings = Settings { buffer_kmers: 4_000, ..Settings::default() };
    let mut kills = 0;
    let summary = loop {
        match stage.host.attempt(Some(14), |host| run(host, &stage.places, &settings)) {
            Ok(summary) => break summary.unwrap(),
            Err(hackbrain::Killed) => kills += 1,
        }
        assert!(kills < 1_000, "fourteen calls are not enough to get anywhere");
    };
    assert!(kills > 5, "killed only {kills} times");
    assert_eq!(summary, LAMBDA);
    assert_eq!(stage.sha256_of_spectrum(), LAMBDA_SHA256);
}

#[test]
fn a_state_is_never_larger_than_the_buffer_and_its_header() {
    let mut stage = Stage::new(&data("lambda_virus.fa"), 1);
    stage.run(&Settings { buffer_kmers: 10_000, ..Settings::default() }).unwrap();
    assert!(stage.host.largest_state_bytes > 8 * 5_000);
    assert!(stage.host.largest_state_bytes <= 8 * 10_000 + 176);
}

#[test]
fn a_genome_without_a_kmer_has_an_empty_spectrum() {
    let mut stage = Stage::new(Path::new(""), 1);
    stage.write_input(b">short\nACGT\n");
    assert_eq!(stage.run(&Settings::default()).unwrap(), Summary::default());
    assert_eq!(stage.artifact("spectrum.txt"), b"");
    assert_eq!(stage.artifact("histogram.txt"), b"");
}

#[test]
fn what_cannot_be_counted_is_refused_by_name() {
    let lambda = fs::read(data("lambda_virus.fa")).unwrap();
    let mut e_coli = fs::read(data("ecoli_536.fna.gz")).unwrap();
    e_coli.truncate(300_000);
    let mut flipped = e_coli.clone();
    flipped[100_000] ^= 1;
    let default = Settings::default();
    let cases: [(&[u8], Settings, &str); 8] = [
        (&lambda[1..], default.clone(), "line 1 begins with 'g' where '>'"),
        (b"", default.clone(), "it holds no record"),
        (&e_coli, default.clone(), "corrupt or cut off"),
        (&flipped, default.clone(), "corrupt or cut off"),
        (b"\x1f\x8b", default.clone(), "corrupt or cut off"),
        (&lambda, Settings { k: 0, ..default.clone() }, "-k is 0, but must be"),
        (&lambda, Settings { k: 32, ..default.clone() }, "-k is 32, but must be"),
        (&lambda, Settings { fan_in: 1, ..default.clone() }, "--fan-in is 1, but must be"),
    ];
    for (input, settings, expected) in cases {
        let mut stage = Stage::new(Path::new(""), 1);
        stage.write_input(input);
        let error = stage.run(&settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
    let mut stage = Stage::new(Path::new("/nowhere/genome"), 1);
    let error = stage.run(&default).unwrap_err();
    assert!(
        matches!(&error, kmer::Error::NoInput { source, .. }
        if source.kind() == io::ErrorKind::NotFound),
        "{error}"
    );
}
