//! The compiling child as a program of its own, for tests and for hosts that want it apart.

fn main() -> std::process::ExitCode {
    hb_sandbox::compiler_main()
}
