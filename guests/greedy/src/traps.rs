//! Faults, each of one kind.
//!
//! `unsafe` is allowed here because a fault is what is wanted: Rust has no safe words for a
//! load from nowhere or a call of nothing. What each command asks for is undefined for the
//! language and a certain trap for the machine; `black_box` keeps the compiler from knowing.
#![allow(unsafe_code)]

use std::{hint::black_box, mem::transmute, num::NonZeroU32};

use hackbrain::{checkpoint, progress};

use crate::Ended;

/// Executes `unreachable`.
pub fn unreachable(_: &[String]) -> Ended {
    std::process::abort()
}

/// Panics, which prints where and why and then executes `unreachable`.
pub fn panic(_: &[String]) -> Ended {
    panic!("asked to panic")
}

/// Divides by zero without Rust's check.
pub fn divide(_: &[String]) -> Ended {
    // SAFETY: none; the division traps.
    let divisor = unsafe { NonZeroU32::new_unchecked(black_box(0)) };
    Err(format!("one divided by zero is {}", black_box(black_box(1) / divisor)))
}

/// Divides the least number by minus one without Rust's check.
pub fn overflow(_: &[String]) -> Ended {
    // SAFETY: none; the division traps.
    let quotient = unsafe { black_box(i32::MIN).checked_div(black_box(-1)).unwrap_unchecked() };
    Err(format!("the quotient is {}", black_box(quotient)))
}

/// Loads from the end of the address space.
pub fn out_of_bounds(_: &[String]) -> Ended {
    let address = black_box(usize::MAX & !7) as *const u64;
    // SAFETY: none; the load traps.
    Err(format!("the last word is {}", unsafe { address.read_volatile() }))
}

/// Calls the function at an index beyond the table.
pub fn table_out_of_bounds(_: &[String]) -> Ended {
    call(usize::MAX >> 1)
}

/// Calls the function at index zero, where no function is.
pub fn null_call(_: &[String]) -> Ended {
    call(0)
}

fn call(index: usize) -> Ended {
    // SAFETY: none; the call traps.
    let function: fn() = unsafe { transmute::<usize, fn()>(black_box(index)) };
    black_box(function)();
    Err(format!("the function at {index} came back"))
}

/// Calls a function as if it took and gave something else.
pub fn bad_signature(_: &[String]) -> Ended {
    let function: fn(&[String]) -> Ended = black_box(null_call);
    // SAFETY: none; the call traps.
    let other = unsafe { transmute::<fn(&[String]) -> Ended, fn(f64, f64) -> f64>(function) };
    Err(format!("the result is {}", black_box(other)(1.0, 2.0)))
}

/// Traps in a function whose name would clear a terminal, forge a line and write backwards.
pub fn hostile_name(_: &[String]) -> Ended {
    hostile();
    Err("the hostile function came back".to_owned())
}

// SAFETY: no other symbol has this name.
#[unsafe(export_name = "hostile\u{1b}[2J\u{7}\r\nhb: sealed \u{202e}<script>alert(1)</script>")]
#[inline(never)]
extern "C" fn hostile() {
    // Opaque, so that the call to a function that never comes back is not moved elsewhere.
    if black_box(true) {
        std::process::abort();
    }
}

/// Asks for the checkpoint twice.
pub fn restore_twice(_: &[String]) -> Ended {
    checkpoint::restore();
    checkpoint::restore();
    Err("a second restore was answered".to_owned())
}

/// Saves a step below the one before.
pub fn falling_step(_: &[String]) -> Ended {
    checkpoint::restore();
    checkpoint::save(2, b"");
    checkpoint::save(1, b"");
    Err("a falling step was saved".to_owned())
}

/// Reports a quantity with a name of 129 bytes.
pub fn long_metric(_: &[String]) -> Ended {
    progress::metric(&"x".repeat(129), 0.0);
    Err("a name of 129 bytes was taken".to_owned())
}

/// Remarks one byte more than 4 KiB.
pub fn long_note(_: &[String]) -> Ended {
    progress::note(&"x".repeat(4097));
    Err("a note of 4097 bytes was taken".to_owned())
}
