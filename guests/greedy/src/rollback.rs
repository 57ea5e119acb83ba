//! Everything that a kill after a checkpoint must undo.
//!
//! One checkpoint with every kind of trace before it, every kind of trace after it, and then a
//! long silence in which a test can kill the job. However often that happens, the job ends with
//! each line, file and metric there once.

use std::{
    fs::{self, OpenOptions},
    hint::black_box,
    io::{self, Write},
    time::SystemTime,
};

use hackbrain::{checkpoint, progress};

use crate::{Ended, number};

/// Lines printed after the checkpoint.
const FLOOD_LINES: u32 = 2000;
/// Turns in one unit of the silence; a unit takes one or two milliseconds.
const UNIT: u64 = 1 << 19;

/// The argument is the length of the silence in units; 2000 unless told otherwise.
pub fn after_checkpoint(arguments: &[String]) -> Ended {
    let units = number(arguments, 0, 2000)?;
    traces(units).map_err(|error| error.to_string())
}

fn traces(units: u64) -> io::Result<()> {
    match checkpoint::restore() {
        None => {
            before()?;
            checkpoint::save(1, b"one");
        }
        Some(snapshot) => {
            assert_eq!((snapshot.step, &snapshot.state[..]), (1, &b"one"[..]));
            // The answer means nothing here; the call tells the host that all is rebuilt.
            checkpoint::due(1);
        }
    }
    after()?;
    progress::note("silent");
    for _ in 0..units {
        for turn in 0..UNIT {
            black_box(turn);
        }
    }
    println!("done");
    fs::write("/out/done.txt", "done\n")
}

fn before() -> io::Result<()> {
    println!("before");
    eprintln!("before");
    fs::write("/job/kept", "before\n")?;
    fs::write("/job/changed", "before\n")?;
    fs::write("/job/removed", "before\n")?;
    fs::write("/out/grown.txt", "before\n")?;
    fs::write("/out/shrunk.txt", "before\nbefore\n")?;
    progress::metric("traces", 1.0);
    progress::report(1, Some(2));
    Ok(())
}

/// Fails where something after the checkpoint was not undone.
fn after() -> io::Result<()> {
    for (path, expected) in [
        ("/job/kept", "before\n"),
        ("/job/changed", "before\n"),
        ("/job/removed", "before\n"),
        ("/out/grown.txt", "before\n"),
        ("/out/shrunk.txt", "before\nbefore\n"),
    ] {
        let found = fs::read_to_string(path)?;
        if found != expected {
            return Err(io::Error::other(format!("{path} holds {found:?}, not {expected:?}")));
        }
    }
    for path in ["/job/new", "/job/directory", "/out/new.txt", "/out/done.txt"] {
        if fs::exists(path)? {
            return Err(io::Error::other(format!("{path} is there already")));
        }
    }
    for line in 0..FLOOD_LINES {
        println!("after {line}");
    }
    eprintln!("after");
    fs::write("/job/changed", "after\n")?;
    fs::remove_file("/job/removed")?;
    fs::write("/job/new", "after\n")?;
    fs::create_dir("/job/directory")?;
    fs::write("/job/directory/new", "after\n")?;
    OpenOptions::new().append(true).open("/out/grown.txt")?.write_all(b"after\n")?;
    OpenOptions::new().write(true).open("/out/shrunk.txt")?.set_len(7)?;
    fs::write("/out/new.txt", "after\n")?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let wall =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
    println!("random {:016x} wall {}", u64::from_le_bytes(random), wall.as_nanos());
    progress::metric("traces", 2.0);
    progress::metric("new", 1.0);
    progress::report(2, Some(2));
    Ok(())
}
