//! A guest that changes its files in every way, step by step, with a checkpoint before each step.
//!
//! Built for `wasm32-wasip1`; it imports `hackbrain:job` by its core names, as a C program would.

use std::{
    alloc::{Layout, alloc, realloc},
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::SystemTime,
};

#[link(wasm_import_module = "hackbrain:job/checkpoint@0.1.0")]
unsafe extern "C" {
    fn restore(snapshot: *mut Snapshot);
    fn due(step: u64) -> i32;
    fn save(step: u64, state: *const u8, len: usize) -> u64;
}

/// `option<snapshot>` as the canonical ABI lays it out.
#[repr(C)]
#[derive(Default)]
struct Snapshot {
    is_some: u8,
    sequence: u64,
    step: u64,
    state: usize,
    len: usize,
}

/// Where the host puts the state.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_len: usize,
    align: usize,
    len: usize,
) -> *mut u8 {
    unsafe {
        if old_len == 0 {
            alloc(Layout::from_size_align(len.max(1), align).unwrap())
        } else {
            realloc(old, Layout::from_size_align(old_len, align).unwrap(), len)
        }
    }
}

const STEPS: u64 = 16;

fn main() {
    let mut snapshot = Snapshot::default();
    unsafe { restore(&mut snapshot) };
    let mut step = if snapshot.is_some == 1 { snapshot.step } else { 0 };
    // What a program does that finds its state in its files.
    tree(Path::new("/job"), false);
    while step < STEPS {
        if unsafe { due(step) } == 1 {
            unsafe { save(step, [].as_ptr(), 0) };
        }
        work(step);
        step += 1;
        println!(
            "{:?}: after {step}:",
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
        );
        tree(Path::new("/job"), true);
        tree(Path::new("/out"), true);
    }
}

/// Something else at each step; it leaves no handle open.
fn work(step: u64) {
    let append = |path: &str, bytes: &[u8]| {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    };
    append("/job/log", format!("step {step}\n").as_bytes());
    let bytes: Vec<u8> = (0..90_000_u64).map(|at| (at * 7 + step) as u8).collect();
    let name = format!("/job/step-{step}");
    match step % 8 {
        0 => fs::write(&name, &bytes).unwrap(),
        1 => append("/job/step-0", &bytes),
        2 => {
            let mut file = OpenOptions::new().write(true).open("/job/step-0").unwrap();
            file.seek(SeekFrom::Start(70_000)).unwrap();
            file.write_all(b"in the middle").unwrap();
            file.set_len(150_000 - step).unwrap();
        }
        3 => {
            fs::create_dir_all(format!("/out/{step}/deep")).unwrap();
            fs::write(format!("/out/{step}/deep/file"), &bytes[..1000]).unwrap();
        }
        4 => {
            let file = File::create(&name).unwrap();
            file.set_len(200_000).unwrap();
            fs::rename(format!("/out/{}/deep", step - 1), format!("/job/moved-{step}")).unwrap();
        }
        5 => fs::rename(format!("/job/step-{}", step - 1), "/out/sparse").unwrap(),
        6 => fs::remove_dir_all(format!("/job/moved-{}", step - 2)).unwrap(),
        _ => {
            // A temporary file that replaces the real one.
            fs::write("/job/new", &bytes[..10]).unwrap();
            fs::rename("/job/new", "/job/step-0").unwrap();
        }
    }
}

/// Goes through everything below a directory, and prints all that can be known of it.
fn tree(path: &Path, print: bool) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        let modified = metadata.modified().unwrap();
        if metadata.is_dir() {
            tree(&path, print);
        } else {
            let sum = fs::read(&path).unwrap().iter().fold(0_u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            if print {
                println!("{} {} {sum:x} {modified:?}", path.display(), metadata.len());
            }
        }
    }
}
