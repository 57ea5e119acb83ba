//! The read model: how fast it is built, and how fast it answers what.
//!
//! `read_model_bench [--json] [--rows N,N…] [DIR]` works in a temporary directory inside DIR (default:
//! the current one) with histories of 10,000, 100,000 and 1,000,000 jobs, or of as many as are asked
//! for. Prints a table for people, or one JSON document. A page is of 50 jobs; each figure is the
//! median and the worst of many askings in milliseconds, one after the other on one thread.

mod history;
mod questions;

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use hb_benches::Arguments;
use hb_read_model::{Changes, Count, Cursor, EventRow, Filter, ReadModel};
use serde_json::{Value, json};

const BATCH: u64 = 1000;
const PAGE: usize = 50;
const TIMES: usize = 101;
/// Pages of a thousand that are walked to come to a deep page.
const WALK_PAGES: usize = 2000;
const SINGLES: u64 = 2000;
const EVENTS: u64 = 100_000;

fn main() -> Result<()> {
    let Arguments { base, sizes, as_json } =
        Arguments::read("--rows", &[10_000, 100_000, 1_000_000])?;
    let mut all = Vec::new();
    for rows in sizes {
        ensure!(rows >= 10_000, "at least 10,000 rows are needed for the mix");
        let root = tempfile::tempdir_in(&base).context("no directory to work in")?;
        let found = measure(root.path(), rows)?;
        if !as_json {
            print(&found);
        }
        all.push(found);
    }
    if as_json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

/// Everything about a history of one size.
fn measure(root: &Path, rows: u64) -> Result<Value> {
    let path = root.join("history.sqlite");
    let (model, _) = ReadModel::open(&path, [7; 16])?;
    let built = build(&model, rows)?;
    let bytes = std::fs::metadata(&path)?.len();
    let pages = questions::all(rows)
        .into_iter()
        .map(|(name, filter)| question(&model, name, &filter))
        .collect::<Result<Vec<_>>>()?;
    let singles = singles(&model, rows)?;
    drop(model);
    let at = Instant::now();
    let (model, opened) = ReadModel::open(&path, [7; 16])?;
    let open_ms = at.elapsed().as_secs_f64() * 1e3;
    ensure!(opened == hb_read_model::Opened::Existing, "it started anew: {opened:?}");
    let at = Instant::now();
    model.clear()?;
    let clear_ms = at.elapsed().as_secs_f64() * 1e3;
    let rebuilt = build(&model, rows)?;
    let events_per_second = events(&model)?;
    #[allow(clippy::cast_precision_loss)] // sizes are far below 2^52
    let (bytes_each, per_second) = (bytes as f64 / rows as f64, rows as f64 / built);
    Ok(json!({
        "rows": rows,
        "build_s": built,
        "build_rows_per_s": per_second,
        "rebuild_s": rebuilt + clear_ms / 1e3,
        "clear_ms": clear_ms,
        "open_ms": open_ms,
        "file_bytes": bytes,
        "bytes_per_job": bytes_each,
        "apply_one_job_ms": singles,
        "events_per_s": events_per_second,
        "pages": pages,
    }))
}

/// Feeds the whole history as a rebuild does; seconds.
fn build(model: &ReadModel, rows: u64) -> Result<f64> {
    let mut seconds = 0.0;
    for first in (0..rows).step_by(usize::try_from(BATCH)?) {
        let places = first..(first + BATCH).min(rows);
        let is_last = places.end == rows;
        let jobs = places.map(|place| history::job(place, rows)).collect();
        let applied = if is_last { history::number(rows) } else { 0 };
        let changes = Changes { jobs, applied, ..Changes::default() };
        let at = Instant::now();
        model.apply(&changes)?;
        seconds += at.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// New jobs one at a time, each a transaction of its own.
fn singles(model: &ReadModel, rows: u64) -> Result<Value> {
    let mut times = Vec::new();
    for place in rows..rows + SINGLES {
        let job = history::job(place, rows + SINGLES);
        let changes = Changes { applied: job.last, jobs: vec![job], ..Changes::default() };
        let at = Instant::now();
        model.apply(&changes)?;
        times.push(at.elapsed().as_secs_f64() * 1e3);
    }
    Ok(spread(times))
}

/// Events a second, in changes of a thousand.
fn events(model: &ReadModel) -> Result<f64> {
    let mut seconds = 0.0;
    let first = model.applied() + 1;
    for start in (first..first + EVENTS).step_by(usize::try_from(BATCH)?) {
        let event = |lsn| EventRow {
            lsn,
            job: lsn / 5,
            kind: "checkpointed".to_owned(),
            json: format!(
                "{{\"lsn\":{lsn},\"step\":{},\"fuel\":123456789,\"at_ns\":1767225600000000000}}",
                lsn % 100
            ),
        };
        let changes = Changes {
            events: (start..start + BATCH).map(event).collect(),
            applied: start + BATCH - 1,
            ..Changes::default()
        };
        let at = Instant::now();
        model.apply(&changes)?;
        seconds += at.elapsed().as_secs_f64();
    }
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    Ok(EVENTS as f64 / seconds)
}

/// One filter: its first page, a deep one, its last one, and the count.
fn question(model: &ReadModel, name: &str, filter: &Filter) -> Result<Value> {
    let first = pages(model, filter, None)?;
    let mut cursors = Vec::new();
    let (mut cursor, mut found, mut thousands) = (None, 0, Vec::new());
    while thousands.len() < WALK_PAGES {
        let at = Instant::now();
        let page = model.query(filter, cursor.as_ref(), 1000)?;
        thousands.push(at.elapsed().as_secs_f64() * 1e3);
        found += page.jobs.len();
        cursor = page.next;
        cursors.extend(cursor);
        if cursor.is_none() {
            break;
        }
    }
    let deep = cursors.get(cursors.len() * 9 / 10).copied();
    let last = cursors.last().copied();
    let mut counts = Vec::new();
    let mut count = Count::Exactly(0);
    for _ in 0..TIMES {
        let at = Instant::now();
        count = model.count(filter)?;
        counts.push(at.elapsed().as_secs_f64() * 1e3);
    }
    if let Count::Exactly(exactly) = count {
        ensure!(usize::try_from(exactly)? == found, "{name}: {exactly} counted, {found} listed");
    }
    Ok(json!({
        "filter": name,
        "jobs": found,
        "first_page_ms": first,
        "deep_page_ms": pages(model, filter, deep)?,
        "last_page_ms": pages(model, filter, last)?,
        "page_of_1000_ms": spread(thousands),
        "count_ms": spread(counts),
    }))
}

fn pages(model: &ReadModel, filter: &Filter, cursor: Option<Cursor>) -> Result<Value> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let at = Instant::now();
        model.query(filter, cursor.as_ref(), PAGE)?;
        times.push(at.elapsed().as_secs_f64() * 1e3);
    }
    Ok(spread(times))
}

/// Median and worst.
fn spread(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    json!({ "median": times.get(times.len() / 2), "worst": times.last() })
}

fn print(found: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let pair =
        |value: &Value| format!("{:6.2} {:7.2}", number(&value["median"]), number(&value["worst"]));
    println!(
        "\n{} jobs: built in {:.1} s ({:.0}/s), rebuilt in {:.1} s, opened in {:.1} ms, {:.1} MB ({:.0} B a job)",
        found["rows"],
        number(&found["build_s"]),
        number(&found["build_rows_per_s"]),
        number(&found["rebuild_s"]),
        number(&found["open_ms"]),
        number(&found["file_bytes"]) / 1e6,
        number(&found["bytes_per_job"]),
    );
    println!(
        "one job in a transaction of its own: {} ms; {:.0} events/s in thousands",
        pair(&found["apply_one_job_ms"]),
        number(&found["events_per_s"]),
    );
    println!(
        "{:<40} {:>8}   first page ms    deep page ms    last page ms    1,000 jobs ms        count ms",
        "filter (median, worst)", "jobs"
    );
    for page in found["pages"].as_array().into_iter().flatten() {
        let columns =
            ["first_page_ms", "deep_page_ms", "last_page_ms", "page_of_1000_ms", "count_ms"];
        println!(
            "{:<40} {:>8}  {}",
            page["filter"].as_str().unwrap_or_default(),
            page["jobs"],
            columns.map(|column| pair(&page[column])).join("  "),
        );
    }
}
