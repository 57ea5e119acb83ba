//! A guest that goes through everything a program does with files and prints what it finds.
//!
//! Built for `wasm32-wasip2` and for `wasm32-wasip1`; both must print the same.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    time::{Duration, SystemTime},
};

fn main() {
    let mode = env::args().nth(1).unwrap_or_default();
    let done = match mode.as_str() {
        "tour" => tour(),
        "copy" => copy(),
        "fill" => fill(),
        "open" => open_many(),
        other => panic!("no mode {other:?}"),
    };
    done.expect("the guest's files work");
}

/// Prints an error, or what came instead.
fn refused<T: std::fmt::Debug>(what: &str, result: io::Result<T>) {
    match result {
        Ok(value) => println!("{what}: not refused but {value:?}"),
        Err(error) => println!("{what}: {error}"),
    }
}

fn nanoseconds(time: io::Result<SystemTime>) -> u128 {
    time.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

fn names(path: &str) -> io::Result<Vec<String>> {
    fs::read_dir(path)?
        .map(|entry| {
            let entry = entry?;
            let mark = if entry.file_type()?.is_dir() { "/" } else { "" };
            Ok(format!("{}{mark}", entry.file_name().into_string().unwrap()))
        })
        .collect()
}

fn tour() -> io::Result<()> {
    bytes()?;
    directories()?;
    times()?;
    handles()?;
    errors();
    println!("/in: {:?}", names("/in")?);
    println!("genome: {:?}", fs::read_to_string("/in/genome")?);
    fs::copy("/in/genome", "/out/genome")?;
    println!("relative: {:?}", fs::read_to_string("out/genome")?);
    Ok(())
}

fn bytes() -> io::Result<()> {
    fs::write("/job/a", "hello")?;
    OpenOptions::new().append(true).open("/job/a")?.write_all(b" world")?;
    println!("appended: {:?}", fs::read_to_string("/job/a")?);

    let mut file = OpenOptions::new().read(true).write(true).open("/job/a")?;
    file.seek(SeekFrom::Start(6))?;
    file.write_all(b"WORLD")?;
    file.seek(SeekFrom::End(-5))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    println!("sought: {text:?} at {}", file.stream_position()?);
    file.set_len(3)?;
    file.seek(SeekFrom::Start(5))?;
    file.write_all(b"!")?;
    file.sync_all()?;
    println!("cut and grown: {:?}", fs::read("/job/a")?);
    println!("cut by opening: {:?}", File::create("/job/a")?.metadata()?.len());

    // Enough to cross chunks and the buffers of every layer.
    let pattern: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write("/job/large", &pattern)?;
    let mut file = File::open("/job/large")?;
    file.seek(SeekFrom::Start(65_000))?;
    let mut part = vec![0; 70_000];
    file.read_exact(&mut part)?;
    println!("large: {} {}", part == pattern[65_000..135_000], fs::read("/job/large")? == pattern);
    fs::remove_file("/job/large")
}

fn directories() -> io::Result<()> {
    fs::create_dir_all("/job/d/e/f")?;
    for name in ["c", "a", "b", "ü"] {
        fs::write(format!("/job/d/{name}"), name)?;
    }
    println!("/job/d: {:?}", names("/job/d")?);
    fs::rename("/job/d/a", "/job/d/b")?;
    fs::rename("/job/d/e", "/job/d/g")?;
    fs::rename("/job/d/c", "/out/c")?;
    println!("/job/d: {:?}, /out: {:?}", names("/job/d")?, names("/out")?);
    println!("b: {:?}", fs::read_to_string("/job/d/./g/../b")?);
    println!("g/f is a directory: {}", fs::metadata("/job/d/g/f")?.is_dir());
    fs::remove_dir_all("/job/d")?;
    println!("/job: {:?}", names("/job")?);

    // More entries than any buffer for them holds.
    fs::create_dir("/job/many")?;
    for number in (0..500).rev() {
        File::create(format!("/job/many/file-with-a-rather-long-name-{number:04}"))?;
    }
    let found = names("/job/many")?;
    println!("many: {}, in order: {}", found.len(), found.is_sorted());
    fs::remove_dir_all("/job/many")
}

fn times() -> io::Result<()> {
    let start = SystemTime::now();
    fs::write("/job/t", "x")?;
    let made = fs::metadata("/job/t")?.modified()?;
    println!("made after the start: {}", made >= start);
    println!("and before now: {}", made <= SystemTime::now());
    let file = OpenOptions::new().write(true).open("/job/t")?;
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    file.set_times(fs::FileTimes::new().set_accessed(then).set_modified(then))?;
    drop(file);
    fs::read("/job/t")?;
    let metadata = fs::metadata("/job/t")?;
    println!("set: {} {}", nanoseconds(metadata.modified()), nanoseconds(metadata.accessed()));
    println!("root: {}", nanoseconds(fs::metadata("/job")?.modified()));
    println!("input: {}", nanoseconds(fs::metadata("/in/genome")?.modified()));
    Ok(())
}

fn handles() -> io::Result<()> {
    fs::write("/job/h", "still there")?;
    let mut file = OpenOptions::new().read(true).write(true).open("/job/h")?;
    fs::remove_file("/job/h")?;
    fs::write("/job/h", "another")?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(b" and more")?;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    println!("removed but open: {text:?}, by name: {:?}", fs::read_to_string("/job/h")?);
    let mut file = OpenOptions::new().create_new(true).write(true).open("/job/n")?;
    file.write_all(b"1")?;
    fs::rename("/job/n", "/out/n")?;
    file.write_all(b"2")?;
    println!("moved while open: {:?}", fs::read_to_string("/out/n")?);
    Ok(())
}

fn errors() {
    refused("absent", File::open("/job/absent"));
    refused("absent directory", File::create("/job/absent/x"));
    refused("exists", OpenOptions::new().create_new(true).write(true).open("/job/h"));
    refused("directory exists", fs::create_dir("/job/."));
    refused("through a file", File::open("/job/h/x"));
    refused("write a directory", fs::write("/out", "x"));
    refused("list a file", names("/job/h"));
    fs::create_dir_all("/job/full/x").unwrap();
    refused("not empty", fs::remove_dir("/job/full"));
    refused("directory over file", fs::rename("/job/full", "/job/h"));
    refused("file over directory", fs::rename("/job/h", "/job/full"));
    refused("into itself", fs::rename("/job/full", "/job/full/x/y"));
    refused("remove a directory as a file", fs::remove_file("/job/full"));
    refused("remove a file as a directory", fs::remove_dir("/job/h"));
    refused("remove a root", fs::remove_dir("/job/full/.."));
    refused("change an input", OpenOptions::new().append(true).open("/in/genome"));
    refused("add an input", File::create("/in/new"));
    refused("remove an input", fs::remove_file("/in/genome"));
    refused("move an input", fs::rename("/in/genome", "/job/genome"));
    refused("hard link", fs::hard_link("/job/h", "/job/link"));
    refused("read a link", fs::read_link("/job/h"));
    refused("long name", File::create(format!("/job/{}", "x".repeat(256))));
    refused("write without the right", File::open("/job/h").unwrap().write_all(b"x"));
    let mut writer = OpenOptions::new().write(true).open("/job/h").unwrap();
    refused("read without the right", writer.read(&mut [0]));
    refused("elsewhere", File::open("/etc/passwd"));
    // How these are refused differs between the two C libraries.
    println!("read a directory: {}", fs::read("/out").is_err());
    for path in ["/job/../etc/passwd", "../etc/passwd", "/", ".", "nowhere"] {
        println!("{path}: {}", File::open(path).is_err() || names(path).is_err());
    }
}

/// Moves the given number of MiB through `/job` in the given portions.
fn copy() -> io::Result<()> {
    let number = |at| -> usize { env::args().nth(at).unwrap().parse().unwrap() };
    let (total, portion) = (number(2) << 20, number(3));
    let mut buffer = vec![7; portion];
    let mut file = File::create("/job/copy")?;
    for _ in 0..total / portion {
        file.write_all(&buffer)?;
    }
    drop(file);
    let mut file = File::open("/job/copy")?;
    let mut read = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            len => read += len,
        }
    }
    println!("{read}");
    Ok(())
}

/// Writes until it is refused, then goes on with what is left.
fn fill() -> io::Result<()> {
    let mut file = File::create("/job/fill")?;
    let mut written = 0;
    let error = loop {
        match file.write(&[1; 1000]) {
            Ok(len) => written += len,
            Err(error) => break error,
        }
    };
    println!("written {written}, then {error}");
    println!("length {}", fs::metadata("/job/fill")?.len());
    drop(file);
    fs::remove_file("/job/fill")?;
    let mut made = 0;
    let error = loop {
        match File::create(format!("/out/{made}")) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    println!("made {made}, then {error}");
    fs::remove_file("/out/0")?;
    fs::write("/out/0", "there is room again")
}

fn open_many() -> io::Result<()> {
    fs::write("/job/f", "x")?;
    let mut open = Vec::new();
    let error = loop {
        match File::open("/job/f") {
            Ok(file) => open.push(file),
            Err(error) => break error,
        }
    };
    println!("open {}, then {error}", open.len());
    assert_ne!(error.kind(), ErrorKind::NotFound);
    open.pop();
    println!("again: {:?}", fs::read_to_string("/job/f")?);
    Ok(())
}
