//! What checkpoints cost a real job: the 21-mers of E. coli, with a checkpoint every second and
//! with none, as whole processes that take turns.
//!
//! Prints each pair, the median of their ratios, what one checkpoint wrote, and the most memory
//! that the guest held. `checkpoint_bench [PAIRS]`, seven pairs unless told otherwise.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};

/// Copies of the genome that are counted, so that the job takes several seconds.
const COPIES: usize = 4;

fn main() -> anyhow::Result<()> {
    let pairs: usize = env::args().nth(1).map_or(Ok(7), |text| text.parse())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let hb = env::current_exe()?.with_file_name("hb");
    ensure!(hb.is_file(), "{} is missing: cargo build --release -p hb", hb.display());
    let work = tempfile::tempdir()?;
    let genome = repeated_genome(root, work.path())?;
    let job = Job { hb, guest: root.join("target/guests/kmer.wasm"), genome };
    // Compiles the guest and warms the page cache.
    job.run(&work.path().join("warm"), &["--no-checkpoints"])?;

    let mut ratios = Vec::new();
    println!("{:>10} {:>10} {:>7}", "every 1 s", "none", "ratio");
    for pair in 0..pairs {
        let data = |name: &str| work.path().join(format!("{name}-{pair}"));
        let (with, shown) = job.run(&data("with"), &["--checkpoint-every", "1s"])?;
        let (without, _) = job.run(&data("without"), &["--no-checkpoints"])?;
        ratios.push(with / without);
        println!("{with:>9.2}s {without:>9.2}s {:>7.3}   {shown}", with / without);
        std::fs::remove_dir_all(data("with"))?;
        std::fs::remove_dir_all(data("without"))?;
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.3} of {pairs} pairs", ratios[ratios.len() / 2]);
    Ok(())
}

struct Job {
    hb: PathBuf,
    guest: PathBuf,
    genome: PathBuf,
}

impl Job {
    /// Seconds that it took, and what the ledger says of checkpoints and memory.
    fn run(&self, data: &Path, flags: &[&str]) -> anyhow::Result<(f64, String)> {
        // The compiled guest is the same for all.
        let cache = data.with_file_name("warm").join("cache");
        if cache.is_dir() {
            std::fs::create_dir_all(data)?;
            let copied = Command::new("cp").arg("-r").arg(&cache).arg(data).status()?;
            ensure!(copied.success(), "the cache could not be copied");
        }
        let input = format!("genome={}", self.genome.display());
        let begun = Instant::now();
        let mut run = Command::new(&self.hb);
        run.arg("--data").arg(data).args(["run", "--job-id", "k", "--input", &input]);
        // The spectrum and the runs of several copies are larger than the default allows.
        run.args(["--max-files-bytes", "2GiB"]).args(flags).arg(&self.guest);
        run.args(["--", "-k", "21"]).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(run.status()?.success(), "the job failed");
        let seconds = begun.elapsed().as_secs_f64();
        let show = Command::new(&self.hb).arg("--data").arg(data).args(["show", "k"]).output()?;
        let shown = String::from_utf8_lossy(&show.stdout).into_owned();
        let wanted = |line: &&str| line.starts_with("checkpoints") || line.starts_with("peak");
        let words: Vec<&str> = shown.lines().filter(wanted).map(str::trim).collect();
        Ok((seconds, words.join("; ")))
    }
}

/// The genome several times over, plain, so that time goes into counting.
fn repeated_genome(root: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let gz = root.join("tests/data/ecoli_536.fna.gz");
    let plain = Command::new("gzip").arg("-dc").arg(gz).output()?;
    ensure!(plain.status.success(), "gzip could not read the genome");
    let path = work.join("genome.fa");
    std::fs::write(&path, plain.stdout.repeat(COPIES))?;
    Ok(path)
}
