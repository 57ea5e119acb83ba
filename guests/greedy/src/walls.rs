//! What lies behind the walls: exit codes, clocks, random bytes, other files and the network.

use std::{
    fs,
    io::{self, Read},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process, thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{Ended, number};

/// Ends with this exit code through `hackbrain:job/process`.
pub fn exit(arguments: &[String]) -> Ended {
    let code = number(arguments, 0, 0)?;
    let code = u8::try_from(code).map_err(|_| format!("{code} is no exit code from 0 to 255"))?;
    hackbrain::process::exit(code)
}

/// Ends with this exit code through the standard library, which knows success and failure.
pub fn std_exit(arguments: &[String]) -> Ended {
    let code = number(arguments, 0, 0)?;
    let code = i32::try_from(code).map_err(|_| format!("{code} is too large"))?;
    process::exit(code)
}

/// Sleeps for so many seconds and prints how many have passed by the clock.
pub fn sleep(arguments: &[String]) -> Ended {
    let seconds = number(arguments, 0, 1)?;
    let before = Instant::now();
    thread::sleep(Duration::from_secs(seconds));
    println!("slept {} s", before.elapsed().as_secs());
    Ok(())
}

/// Prints three readings of the wall clock and of the monotonic clock, in nanoseconds.
pub fn clock(_: &[String]) -> Ended {
    let start = Instant::now();
    for _ in 0..3 {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|error| error.to_string())?;
        println!("wall {} monotonic {}", wall.as_nanos(), start.elapsed().as_nanos());
    }
    Ok(())
}

/// Prints random bytes, 32 unless told otherwise.
pub fn random(arguments: &[String]) -> Ended {
    let length = number(arguments, 0, 32)?;
    for _ in 0..length {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(|error| error.to_string())?;
        print!("{:02x}", byte[0]);
    }
    println!();
    Ok(())
}

/// Tries every way out and prints of each whether it was refused.
pub fn escape(_: &[String]) -> Ended {
    let mut open = 0;
    for (name, attempt) in WAYS_OUT {
        match attempt() {
            Ok(()) => {
                open += 1;
                println!("ALLOWED {name}");
            }
            Err(error) => println!("refused {name}: {error}"),
        }
    }
    if open == 0 { Ok(()) } else { Err(format!("{open} ways out are open")) }
}

type Attempt = fn() -> io::Result<()>;

const WAYS_OUT: &[(&str, Attempt)] = &[
    ("reading /etc/passwd", || read("/etc/passwd")),
    ("reading etc/passwd", || read("etc/passwd")),
    ("reading ../../etc/passwd", || read("../../etc/passwd")),
    ("reading /job/../etc/passwd", || read("/job/../etc/passwd")),
    ("reading /job/../../../../etc/passwd", || read("/job/../../../../etc/passwd")),
    ("reading /in/../../../../etc/passwd", || read("/in/../../../../etc/passwd")),
    ("reading /proc/self/environ", || read("/proc/self/environ")),
    ("reading through an absolute link", || through_link("/etc/passwd")),
    ("reading through a relative link", || through_link("../../../../etc/passwd")),
    ("reading through a link to a directory", || {
        through_link_in("../../../..", "/job/link/etc/passwd")
    }),
    ("listing /job/..", || fs::read_dir("/job/..").map(drop)),
    ("listing /etc", || fs::read_dir("/etc").map(drop)),
    ("writing /etc/greedy", || fs::write("/etc/greedy", "")),
    ("writing /greedy", || fs::write("/greedy", "")),
    ("writing /job/../greedy", || fs::write("/job/../greedy", "")),
    ("writing /in/greedy", || fs::write("/in/greedy", "")),
    ("making the directory /in/greedy", || fs::create_dir("/in/greedy")),
    ("linking /in/link", || link("/etc/passwd", "/in/link")),
    ("writing to an input", || {
        each_input(|path| fs::OpenOptions::new().write(true).open(path).map(drop))
    }),
    ("emptying an input", || each_input(|path| fs::write(path, ""))),
    ("removing an input", || each_input(|path| fs::remove_file(path))),
    ("renaming an input", || each_input(|path| fs::rename(path, "/job/input"))),
    ("hard-linking an input", || each_input(|path| fs::hard_link(path, "/job/input"))),
    ("moving a file out of /job", || {
        fs::write("/job/mover", "")?;
        let moved = fs::rename("/job/mover", "/job/../../mover");
        fs::remove_file("/job/mover").and(moved)
    }),
    ("hard-linking /etc/passwd", || fs::hard_link("/etc/passwd", "/job/passwd")),
    ("reading HOME", || {
        std::env::var_os("HOME").map(drop).ok_or_else(|| io::Error::other("it is not there"))
    }),
    ("connecting to 127.0.0.1:80", || TcpStream::connect("127.0.0.1:80").map(drop)),
    ("listening on 127.0.0.1", || TcpListener::bind("127.0.0.1:0").map(drop)),
    ("sending to 127.0.0.1:53", || {
        UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", "127.0.0.1:53").map(drop)
    }),
    ("looking up localhost", || ("localhost", 80).to_socket_addrs().map(drop)),
    ("starting a process", || process::Command::new("/bin/true").spawn().map(drop)),
    ("starting a thread", || thread::Builder::new().spawn(|| ()).map(drop)),
];

fn read(path: &str) -> io::Result<()> {
    fs::File::open(path)?.read(&mut [0; 16]).map(drop)
}

fn through_link(target: &str) -> io::Result<()> {
    through_link_in(target, "/job/link")
}

/// A link that may be made may stand there; what counts is whether it leads anywhere.
fn through_link_in(target: &str, path: &str) -> io::Result<()> {
    link(target, "/job/link")?;
    let result = read(path);
    fs::remove_file("/job/link").and(result)
}

#[allow(deprecated, reason = "the only way to a symbolic link that is stable on this target")]
fn link(target: &str, path: &str) -> io::Result<()> {
    fs::soft_link(target, path)
}

/// Does it to each file below `/in`, as long as it is refused.
fn each_input(attempt: impl Fn(&std::path::Path) -> io::Result<()>) -> io::Result<()> {
    let mut refused = io::Error::other("there is no input");
    for entry in fs::read_dir("/in")? {
        match attempt(&entry?.path()) {
            Ok(()) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
