//! The loop that makes a job survive anything.

use hackbrain::checkpoint;

fn main() {
    // First of all, before anything is printed or written.
    let mut done = match checkpoint::restore() {
        Some(snapshot) => u64::from_le_bytes(snapshot.state.try_into().expect("8 bytes are saved")),
        None => 0,
    };
    while done < 1000 {
        if checkpoint::due(done) {
            checkpoint::save(done, &done.to_le_bytes());
        }
        println!("{done}"); // the work
        done += 1;
    }
}
