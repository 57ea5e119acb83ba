//! A greeting: a plain program that imports nothing of HackBrain's.
//!
//! Prints its arguments one a line, so that what reaches a guest can be seen.

fn main() {
    println!("hello from inside the sandbox");
    for (index, argument) in std::env::args().enumerate().skip(1) {
        println!("argument {index}: {argument}");
    }
}
