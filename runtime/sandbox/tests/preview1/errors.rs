//! What is refused, and with which number.

use crate::{
    common::{Bench, launch},
    script::{FUNCTIONS, Script},
};

const BADF: u64 = 8;
const EXIST: u64 = 20;
const FAULT: u64 = 21;
const FBIG: u64 = 22;
const ILSEQ: u64 = 25;
const INVAL: u64 = 28;
const ISDIR: u64 = 31;
const NAMETOOLONG: u64 = 37;
const NOENT: u64 = 44;
const NOTDIR: u64 = 54;
const NOTSOCK: u64 = 57;
const NOTSUP: u64 = 58;
const OVERFLOW: u64 = 61;
const PERM: u64 = 63;
const ROFS: u64 = 69;
const SPIPE: u64 = 70;

/// Opens `job/f` for reading and writing as descriptor 6, where `f` stands at address 0.
pub const OPEN_F: &str = "path_open 3 0 0 1 1 66 0 0 1000";

#[test]
fn a_pointer_outside_of_the_memory_is_a_fault_and_nothing_has_happened() {
    let bench = Bench::new();
    // Bytes 8.. are one buffer of 4 bytes, 16.. one that ends outside, 24.. one that starts there.
    let script = Script::new().bytes(0, b"f").words(8, &[100, 4, 65_533, 4, 65_537, 0]).steps(&[
        (OPEN_F, 0),
        ("load32 1000", 6),
        ("fd_write 6 8 1 65533", FAULT),
        ("fd_write 6 8 1 -1", FAULT),
        ("fd_write 6 16 1 200", FAULT),
        ("fd_write 6 24 1 200", FAULT),
        ("fd_write 6 65529 1 200", FAULT),
        ("fd_write 6 -8 1 200", FAULT),
        ("fd_write 6 8 2 200", FAULT),
        ("fd_tell 6 300", 0),
        ("load64 300", 0),
        ("fd_filestat_get 6 65473", FAULT),
        ("fd_filestat_get 6 300", 0),
        ("load64 332", 0),
        ("fd_write 6 8 1 65532", 0),
        ("load32 65532", 4),
        ("fd_seek 6 1 0 65529", FAULT),
        ("fd_tell 6 300", 0),
        ("load64 300", 4),
        ("random_get 65530 7", FAULT),
        ("random_get 0 -1", FAULT),
        ("args_get 65535 0", FAULT),
        ("args_get 0 65535", FAULT),
        ("args_sizes_get 0 65533", FAULT),
        ("clock_time_get 0 0 65529", FAULT),
        ("path_open 3 0 65535 2 1 66 0 0 1000", FAULT),
        ("path_create_directory 3 0 -1", FAULT),
        ("path_create_directory 3 -1 1", FAULT),
        ("path_rename 3 0 1 3 65536 1", FAULT),
        ("path_rename 3 0 0 3 0 1", NOENT),
        ("fd_readdir 3 60000 6000 0 200", FAULT),
        ("fd_readdir 3 0 100 0 65533", FAULT),
        ("poll_oneoff 65500 0 1 200", FAULT),
        ("poll_oneoff 0 65505 1 200", FAULT),
        ("poll_oneoff 0 0 1 65533", FAULT),
        ("fd_prestat_get 3 65529", FAULT),
        ("fd_prestat_dir_name 3 65533 4", FAULT),
    ]);
    let ledger = script.run(&bench, launch());
    assert_eq!(ledger.end().names.keys().collect::<Vec<_>>(), ["job/f"]);
    assert_eq!(ledger.end().counters.secure_random_bytes, 0);
}

#[test]
fn without_a_memory_every_pointer_is_a_fault() {
    let bench = Bench::new();
    let source = r#"(module
        (import "wasi_snapshot_preview1" "random_get"
            (func $random_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start") (call $exit (i32.add
            (i32.mul (i32.const 10) (call $random_get (i32.const 0) (i32.const 0)))
            (call $random_get (i32.const 0) (i32.const 1))))))"#;
    assert_eq!(bench.end_of(source).0.outcome.exit_code(), 21);
}

#[test]
fn an_unknown_descriptor_is_one_to_every_function() {
    let bench = Bench::new();
    let mut script = Script::new().bytes(0, b"f");
    for (name, parameters) in FUNCTIONS {
        if !(name.starts_with("fd_") || name.starts_with("path_") || name.starts_with("sock_")) {
            continue;
        }
        // Descriptors come first, but in path_symlink third.
        let place = if *name == "path_symlink" { 2 } else { 0 };
        for fd in ["6", "-1", "2147483647"] {
            let arguments: Vec<&str> =
                (0..parameters.len()).map(|at| if at == place { fd } else { "0" }).collect();
            script = script.step(&format!("{name} {}", arguments.join(" ")), BADF);
        }
    }
    script.run(&bench, launch());
}

#[test]
fn each_kind_of_descriptor_refuses_what_it_cannot_do() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"f").words(8, &[100, 4]).steps(&[
        // Standard input, output and a directory.
        ("fd_write 0 8 1 200", BADF),
        ("fd_read 1 8 1 200", BADF),
        ("fd_read 3 8 1 200", ISDIR),
        ("fd_write 3 8 1 200", ISDIR),
        ("fd_pread 0 8 1 0 200", SPIPE),
        ("fd_pwrite 1 8 1 0 200", SPIPE),
        ("fd_pread 3 8 1 0 200", ISDIR),
        ("fd_seek 0 0 0 200", SPIPE),
        ("fd_tell 1 200", SPIPE),
        ("fd_seek 3 0 0 200", BADF),
        ("fd_readdir 0 300 100 0 200", BADF),
        ("path_create_directory 1 0 1", BADF),
        ("fd_filestat_set_size 3 0", ISDIR),
        ("fd_filestat_set_size 1 0", BADF),
        ("fd_filestat_set_times 1 0 0 0", BADF),
        ("fd_advise 1 0 0 0", BADF),
        ("fd_advise 3 0 0 0", ISDIR),
        ("fd_prestat_get 0 200", BADF),
        ("fd_prestat_dir_name 3 200 3", NAMETOOLONG),
        ("sock_accept 0 0 200", NOTSOCK),
        ("sock_recv 3 8 1 0 200 204", NOTSOCK),
        ("sock_send 1 8 1 0 200", NOTSOCK),
        ("sock_shutdown 2 3", NOTSOCK),
        ("proc_raise 6", NOTSUP),
        ("sched_yield", 0),
        // A file for writing only, one for reading only and one for nothing, which can be read.
        ("path_open 3 0 0 1 1 64 0 0 1000", 0),
        ("path_open 3 0 0 1 0 2 0 0 1000", 0),
        ("path_open 3 0 0 1 0 0 0 0 1000", 0),
        ("load32 1000", 8),
        ("fd_read 6 8 1 200", BADF),
        ("fd_write 6 8 1 200", 0),
        ("fd_write 7 8 1 200", BADF),
        ("fd_allocate 7 0 100", BADF),
        ("fd_filestat_set_size 7 0", BADF),
        ("fd_read 7 8 1 200", 0),
        ("fd_write 8 8 1 200", BADF),
        ("fd_read 8 8 1 200", 0),
        ("load32 200", 4),
        ("fd_readdir 6 300 100 0 200", NOTDIR),
        ("path_filestat_get 6 0 0 1 300", NOTDIR),
        ("path_open 6 0 0 1 1 66 0 0 1000", NOTDIR),
        ("fd_prestat_get 6 200", BADF),
        ("fd_prestat_dir_name 6 200 10", NOTDIR),
        // Numbers that mean nothing.
        ("fd_advise 6 0 0 6", INVAL),
        ("fd_seek 6 0 3 200", INVAL),
        ("fd_fdstat_set_flags 6 32", INVAL),
        ("fd_fdstat_set_flags 6 65536", INVAL),
        ("fd_fdstat_set_rights 6 0 0", NOTSUP),
        ("fd_filestat_set_times 6 0 0 3", INVAL),
        ("fd_filestat_set_times 6 0 0 12", INVAL),
        ("fd_filestat_set_times 6 0 0 16", INVAL),
        ("path_filestat_get 3 2 0 1 300", INVAL),
        ("path_open 3 0 0 1 16 2 0 0 1000", INVAL),
        ("path_open 3 0 0 1 0 2 0 32 1000", INVAL),
        // Cutting without the right to write, and a directory that is made by opening.
        ("path_open 3 0 0 1 8 2 0 0 1000", INVAL),
        ("path_open 3 0 0 1 3 2 0 0 1000", INVAL),
        ("path_open 3 0 0 1 5 66 0 0 1000", EXIST),
        ("clock_time_get 2 0 200", BADF),
        ("clock_time_get 3 0 200", BADF),
        ("clock_time_get 4 0 200", INVAL),
        ("clock_res_get -1 200", INVAL),
        ("poll_oneoff 0 0 0 200", INVAL),
        ("poll_oneoff 0 0 -1 200", INVAL),
        ("fd_close 6", 0),
        ("fd_close 6", BADF),
    ]);
    script.run(&bench, launch());
}

#[test]
fn links_do_not_exist_and_inputs_and_paths_outside_are_out_of_reach() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"f../x/f\xff\xfe\0").steps(&[
        (OPEN_F, 0),
        ("path_link 3 0 0 1 3 4 1", NOTSUP),
        ("path_symlink 0 1 3 4 1", PERM),
        ("path_readlink 3 0 1 300 10 200", INVAL),
        ("path_readlink 3 4 1 300 10 200", NOENT),
        ("path_filestat_get 3 0 1 4 300", PERM),
        ("path_filestat_get 3 0 5 2 300", PERM),
        ("path_filestat_get 3 0 7 1 300", ILSEQ),
        ("path_filestat_get 3 0 9 1 300", INVAL),
        ("path_filestat_get 3 0 0 0 300", NOENT),
        ("path_filestat_get 3 0 2000 1025 300", NAMETOOLONG),
        ("path_open 5 0 0 1 1 66 0 0 1000", ROFS),
        ("path_create_directory 5 0 1", ROFS),
        ("path_rename 3 0 1 5 0 1", ROFS),
    ]);
    script.run(&bench, launch());
}

#[test]
fn positions_and_sizes_end_where_numbers_do() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"f").words(8, &[100, 4]).steps(&[
        (OPEN_F, 0),
        ("fd_write 6 8 1 200", 0),
        ("fd_seek 6 -1 0 300", INVAL),
        ("fd_seek 6 -5 1 300", INVAL),
        ("fd_seek 6 -5 2 300", INVAL),
        ("fd_seek 6 9223372036854775807 1 300", OVERFLOW),
        ("fd_seek 6 9223372036854775807 2 300", OVERFLOW),
        ("fd_seek 6 -9223372036854775808 1 300", INVAL),
        ("fd_tell 6 300", 0),
        ("load64 300", 4),
        ("fd_seek 6 -1 2 300", 0),
        ("load64 300", 3),
        ("fd_seek 6 9223372036854775807 0 300", 0),
        ("fd_read 6 8 1 200", 0),
        ("load32 200", 0),
        ("fd_write 6 8 1 200", FBIG),
        ("fd_pread 6 8 1 -1 200", 0),
        ("fd_pwrite 6 8 1 -1 200", FBIG),
        ("fd_pwrite 6 8 1 -3 200", FBIG),
        ("fd_allocate 6 -1 -1", FBIG),
        ("fd_allocate 6 0 0", INVAL),
        ("fd_filestat_set_size 6 -1", FBIG),
        ("fd_filestat_get 6 300", 0),
        ("load64 332", 4),
    ]);
    script.run(&bench, launch());
}

#[test]
fn lists_of_buffers_are_bounded() {
    let bench = Bench::new();
    // Two buffers of more than 4 GiB together, the first of which alone is outside.
    let script = Script::new().bytes(0, b"f").words(8, &[0, u32::MAX, 0, 2]).steps(&[
        (OPEN_F, 0),
        ("fd_write 6 10000 1025 200", INVAL),
        ("fd_write 6 10000 -1 200", INVAL),
        ("fd_read 0 10000 1025 200", INVAL),
        ("fd_write 6 8 2 200", FAULT),
        // Empty ones.
        ("fd_write 6 10000 1024 200", 0),
        ("load32 200", 0),
        ("fd_write 6 10000 0 200", 0),
        ("fd_write 1 10000 1024 200", 0),
    ]);
    let ledger = script.run(&bench, launch());
    assert_eq!(ledger.end().stdout(), "");
}
