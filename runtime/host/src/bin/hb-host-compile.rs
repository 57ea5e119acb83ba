//! The compiling child as a program of its own, for the tests of this crate.

fn main() -> std::process::ExitCode {
    hb_sandbox::compiler_main()
}
