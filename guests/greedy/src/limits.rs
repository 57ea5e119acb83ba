//! Wants without end: each command here goes on until the host stops it or says no.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{Write, stderr, stdout},
};

use hackbrain::{checkpoint, progress};

use crate::{Ended, number};

/// Computes for ever.
pub fn endless_loop(_: &[String]) -> Ended {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes memory a mebibyte at a time and writes to all of it.
pub fn grow(_: &[String]) -> Ended {
    const STEP_BYTES: usize = 1 << 20;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if let Err(error) = block.try_reserve_exact(STEP_BYTES) {
            return Err(format!("memory was refused after {} MiB: {error}", taken.len()));
        }
        block.resize(STEP_BYTES, 1);
        taken.push(black_box(block));
    }
}

/// Calls itself for ever. Little of a frame lies in linear memory, so that the stack of the
/// engine is the one that ends.
pub fn recurse(_: &[String]) -> Ended {
    #[inline(never)]
    fn deeper(depth: u64) -> u64 {
        // Never so, which only we know.
        if black_box(depth) == u64::MAX {
            return 0;
        }
        // Turned after the call, so that no compiler makes a loop of it.
        deeper(depth.wrapping_add(1)).rotate_left(1) ^ depth
    }
    Err(format!("the recursion ended with {}", deeper(0)))
}

/// Prints for ever.
pub fn flood_stdout(_: &[String]) -> Ended {
    flood(&mut stdout().lock(), "standard output")
}

/// Complains for ever.
pub fn flood_stderr(_: &[String]) -> Ended {
    flood(&mut stderr().lock(), "standard error")
}

fn flood(stream: &mut impl Write, name: &str) -> Ended {
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let mut bytes = 0_u64;
    loop {
        stream
            .write_all(&line)
            .map_err(|error| format!("{name} was refused after {bytes} bytes: {error}"))?;
        bytes += 1024;
    }
}

/// Names a new quantity at each turn.
pub fn flood_metrics(_: &[String]) -> Ended {
    let mut turn = 0_u32;
    loop {
        progress::metric(&format!("quantity_{turn}"), f64::from(turn));
        turn = turn.wrapping_add(1);
    }
}

/// Remarks without end, each of 4 KiB.
pub fn flood_notes(_: &[String]) -> Ended {
    let remark = "x".repeat(4096);
    loop {
        progress::note(&remark);
    }
}

/// Writes one file below `/job` without end.
pub fn fill_files(_: &[String]) -> Ended {
    let block = vec![b'x'; 64 * 1024];
    let mut file = File::create("/job/filler").map_err(|error| error.to_string())?;
    let mut bytes = 0_u64;
    loop {
        file.write_all(&block)
            .map_err(|error| format!("/job/filler was refused after {bytes} bytes: {error}"))?;
        bytes += block.len() as u64;
    }
}

/// Makes empty files below `/job` without end.
pub fn many_files(_: &[String]) -> Ended {
    let mut files = 0_u64;
    loop {
        fs::write(format!("/job/file-{files}"), "")
            .map_err(|error| format!("a file was refused after {files} files: {error}"))?;
        files += 1;
    }
}

/// Opens one file again and again and closes none.
pub fn open_files(_: &[String]) -> Ended {
    let mut open = vec![File::create("/job/file").map_err(|error| error.to_string())?];
    loop {
        let file = File::open("/job/file")
            .map_err(|error| format!("opening was refused after {} files: {error}", open.len()))?;
        open.push(file);
    }
}

/// Saves a state of so many bytes; 1 GiB unless told otherwise.
pub fn big_checkpoint(arguments: &[String]) -> Ended {
    let bytes = number(arguments, 0, 1 << 30)?;
    let mut state = Vec::new();
    usize::try_from(bytes)
        .ok()
        .and_then(|bytes| state.try_reserve_exact(bytes).ok().map(|()| bytes))
        .map(|bytes| state.resize(bytes, 1))
        .ok_or_else(|| format!("memory for a state of {bytes} bytes was refused"))?;
    checkpoint::restore();
    let sequence = checkpoint::save(1, &state);
    println!("checkpoint {sequence} holds {bytes} bytes");
    Ok(())
}

/// Saves empty states without end.
pub fn many_checkpoints(_: &[String]) -> Ended {
    let mut step = checkpoint::restore().map_or(0, |snapshot| snapshot.step);
    loop {
        step += 1;
        checkpoint::save(step, &[]);
    }
}
