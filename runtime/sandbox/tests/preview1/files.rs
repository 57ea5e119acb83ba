//! Descriptors, files, directories and waiting, where they work.

use std::io::Write as _;

use hb_sandbox::{Input, Launch};
use hb_types::capture::{ContentId, NodeKind};

use crate::{
    common::{Bench, launch},
    errors::OPEN_F,
    script::Script,
};

const BADF: u64 = 8;

#[test]
fn a_new_descriptor_gets_the_lowest_free_number() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"f").words(8, &[0, 1]).steps(&[
        (OPEN_F, 0),
        ("load32 1000", 6),
        (OPEN_F, 0),
        (OPEN_F, 0),
        ("load32 1000", 8),
        ("fd_close 7", 0),
        ("fd_close 4", 0),
        ("fd_close 0", 0),
        (OPEN_F, 0),
        ("load32 1000", 0),
        (OPEN_F, 0),
        ("load32 1000", 4),
        (OPEN_F, 0),
        ("load32 1000", 7),
        (OPEN_F, 0),
        ("load32 1000", 9),
        // What has got another number keeps its position, and its own number is free.
        ("fd_write 6 8 1 200", 0),
        ("fd_renumber 6 9", 0),
        ("fd_tell 9 200", 0),
        ("load64 200", 1),
        ("fd_tell 6 200", BADF),
        ("fd_renumber 6 9", BADF),
        ("fd_renumber 9 6", BADF),
        ("fd_renumber 9 -1", BADF),
        ("fd_renumber 9 9", 0),
        ("fd_tell 9 200", 0),
        (OPEN_F, 0),
        ("load32 1000", 6),
        (OPEN_F, 0),
        ("load32 1000", 10),
        // A given directory under another number is still given.
        ("fd_renumber 3 6", 0),
        ("fd_prestat_get 6 200", 0),
        ("load32 204", 4),
    ]);
    script.run(&bench, launch());
}

#[test]
fn renumbering_to_standard_output_leads_it_into_a_file() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"f").words(8, &[0, 1]).steps(&[
        ("fd_write 1 8 1 200", 0),
        (OPEN_F, 0),
        ("fd_renumber 6 1", 0),
        ("fd_write 1 8 1 200", 0),
        ("fd_write 1 8 1 200", 0),
    ]);
    let ledger = script.run(&bench, launch());
    assert_eq!(ledger.end().stdout(), "f");
    let NodeKind::File(file) = ledger.end().names["job/f"].kind else { panic!("a file") };
    assert_eq!(ledger.end().bytes(file), b"ff");
}

#[test]
fn a_guest_is_given_three_directories_and_what_it_opens_is_none_of_them() {
    let bench = Bench::new();
    let mut script = Script::new().bytes(0, b".");
    for (fd, name) in [(3, "/job"), (4, "/out"), (5, "/in")] {
        let len = name.len() as u64;
        let mut bytes = [0; 4];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        script = script
            .step(&format!("fd_prestat_get {fd} 100"), 0)
            .step("load32 100", 0)
            .step("load32 104", len)
            .step(&format!("fd_prestat_dir_name {fd} 200 {len}"), 0)
            .step("load32 200", u64::from(u32::from_le_bytes(bytes)));
        // Standard input's kind and flags are zeros, and the next name may be shorter.
        script = script.step("fd_fdstat_get 0 200", 0);
    }
    script
        .steps(&[
            ("fd_prestat_get 6 100", BADF),
            ("path_open 3 0 0 1 2 2 0 0 1000", 0),
            ("fd_prestat_get 6 100", BADF),
            ("fd_filestat_get 6 300", 0),
            ("load8 316", 3),
        ])
        .run(&bench, launch());
}

#[test]
fn status_says_kind_flags_rights_size_and_times() {
    const READ: u64 = 1 << 1;
    const SEEK: u64 = 1 << 2;
    const TELL: u64 = 1 << 5;
    const WRITE: u64 = 1 << 6;
    let bench = Bench::new();
    let source = |expected: &[(&str, u64)]| {
        Script::new().bytes(0, b"f").words(8, &[0, 3]).steps(expected).run(&bench, launch())
    };
    // A program takes a stream without the rights to seek and of an unknown kind for no terminal.
    let (any, files) = (1 << 3 | 1 << 0 | 1 << 4 | 1 << 21 | 1 << 27, 1 << 7 | 1 << 23);
    let file = any | files | SEEK | TELL;
    source(&[
        ("fd_fdstat_get 0 100", 0),
        ("load8 100", 0),
        ("load64 108", any | READ),
        ("fd_fdstat_get 1 100", 0),
        ("load8 100", 0),
        ("load64 108", any | WRITE),
        ("path_open 3 0 0 1 1 64 0 5 1000", 0),
        ("fd_fdstat_get 6 100", 0),
        ("load8 100", 4),
        ("load16 102", 5),
        ("load64 108", file | WRITE | 1 << 8 | 1 << 22),
        ("fd_fdstat_set_flags 6 0", 0),
        ("fd_fdstat_get 6 100", 0),
        ("load16 102", 0),
        ("path_open 3 0 0 1 0 2 0 0 1000", 0),
        ("fd_fdstat_get 7 100", 0),
        ("load64 108", file | READ),
        // C libraries ask for no right that is not said to be passed on, so that the right to write
        // is named also where files cannot be written.
        ("fd_fdstat_get 5 100", 0),
        ("load8 100", 3),
        ("load64 116", (1 << 28) - 1 - (1 << 19)),
    ]);
    source(&[
        (OPEN_F, 0),
        ("fd_write 6 8 1 200", 0),
        ("fd_filestat_set_times 6 1234567890987654321 7 5", 0),
        ("path_filestat_get 3 1 0 1 300", 0),
        ("load64 300", 1),
        ("load64 308", ContentId::FIRST_FILE.0),
        ("load8 316", 4),
        ("load64 324", 1),
        ("load64 332", 3),
        ("load64 340", 1_234_567_890_987_654_321),
        ("load64 348", 7),
        ("load64 356", 0),
        ("path_filestat_set_times 3 0 0 1 5 6 4", 0),
        ("fd_filestat_get 6 300", 0),
        ("load64 340", 1_234_567_890_987_654_321),
        ("load64 348", 6),
        // The present, which did not pass.
        ("path_filestat_set_times 3 0 0 1 5 6 10", 0),
        ("fd_filestat_get 6 300", 0),
        ("load64 340", 1_700_000_000_000_000_000),
        ("load64 348", 1_700_000_000_000_000_000),
        ("fd_filestat_get 1 300", 0),
        ("load64 308", 0),
        ("load64 316", 0),
    ]);
}

#[test]
fn reading_and_writing_go_over_all_buffers_and_appending_to_the_end() {
    let bench = Bench::new();
    let script = Script::new()
        .bytes(0, b"fabcdef")
        // Three buffers with an empty one between them, and two to read into.
        .words(8, &[1, 2, 0, 0, 3, 4])
        .words(32, &[100, 4, 110, 10])
        .steps(&[
            ("path_open 3 0 0 1 1 66 0 1 1000", 0),
            ("fd_write 6 8 3 200", 0),
            ("load32 200", 6),
            ("fd_tell 6 200", 0),
            ("load64 200", 6),
            ("fd_seek 6 1 0 200", 0),
            ("fd_read 6 32 2 200", 0),
            ("load32 200", 5),
            ("load32 100", u64::from(u32::from_le_bytes(*b"bcde"))),
            ("load8 110", u64::from(b'f')),
            ("fd_seek 6 0 0 200", 0),
            ("fd_write 6 8 1 200", 0),
            ("fd_tell 6 200", 0),
            ("load64 200", 8),
            ("fd_fdstat_set_flags 6 0", 0),
            ("fd_seek 6 0 0 200", 0),
            ("fd_write 6 24 1 200", 0),
            ("fd_pwrite 6 8 1 9 200", 0),
            ("fd_pread 6 32 1 8 200", 0),
            ("load32 200", 3),
            ("load32 100", u64::from(u32::from_le_bytes(*b"\0abe"))),
            ("fd_tell 6 200", 0),
            ("load64 200", 4),
            ("fd_allocate 6 5 3", 0),
            ("fd_allocate 6 10 3", 0),
            ("fd_sync 6", 0),
            ("fd_datasync 6", 0),
        ]);
    let ledger = script.run(&bench, launch());
    let NodeKind::File(file) = ledger.end().names["job/f"].kind else { panic!("a file") };
    assert_eq!(ledger.end().bytes(file), b"cdefefab\0ab\0\0");
}

#[test]
fn standard_input_is_read_in_order_and_ends() {
    let bench = Bench::new();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let script = Script::new().words(8, &[0, 0, 100, 4, 104, 4]).steps(&[
        ("fd_read 0 8 3 200", 0),
        ("load32 200", 4),
        ("load32 100", u64::from(u32::from_le_bytes(*b"0123"))),
        ("fd_read 0 24 1 200", 0),
        ("fd_read 0 24 1 200", 0),
        ("load32 200", 2),
        ("load32 104", u64::from(u32::from_le_bytes(*b"8967"))),
        ("fd_read 0 24 1 200", 0),
        ("load32 200", 0),
    ]);
    let ledger = script.run(&bench, Launch { stdin: Some(file), ..launch() });
    assert_eq!(ledger.end().counters.stdin_bytes, 10);
    Script::new()
        .words(8, &[100, 4])
        .step("fd_read 0 8 1 200", 0)
        .step("load32 200", 0)
        .run(&bench, launch());
}

#[test]
fn a_listing_goes_through_buffers_of_any_size_and_survives_removals() {
    let bench = Bench::new();
    let input = |name: &str| {
        let file = tempfile::tempfile().unwrap();
        Input { name: name.to_owned(), file, len_bytes: 0 }
    };
    let inputs = vec![input("bb"), input("a"), input("ccc")];
    // An entry is 24 bytes and the name; `d_next` stands at 0, the length at 16, the kind at 20.
    let script = Script::new().steps(&[
        ("fd_readdir 5 0 0 0 2000", 0),
        ("load32 2000", 0),
        ("fd_readdir 5 0 1000 0 2000", 0),
        ("load32 2000", 25 + 26 + 25 + 26 + 27),
        ("load64 0", 1),
        ("load32 16", 1),
        ("load8 20", 3),
        ("load8 24", u64::from(b'.')),
        ("load64 25", 2),
        ("load16 49", u64::from(u16::from_le_bytes(*b".."))),
        ("load64 51", 3),
        ("load8 71", 4),
        ("load8 75", u64::from(b'a')),
        ("load64 76", 4),
        ("load64 102", 5),
        ("load16 126", u64::from(u16::from_le_bytes(*b"cc"))),
        // The buffer ends in a header, then in a name, then with an entry.
        ("fd_readdir 5 0 30 0 2000", 0),
        ("load32 2000", 30),
        ("fd_readdir 5 0 10 2 2000", 0),
        ("load32 2000", 10),
        ("fd_readdir 5 0 50 2 2000", 0),
        ("load32 2000", 50),
        ("load8 49", u64::from(b'b')),
        ("fd_readdir 5 0 51 3 2000", 0),
        ("load32 2000", 51),
        ("load64 0", 4),
        // Cookies that no listing ended with, and such that none ever gave.
        ("fd_readdir 5 0 1000 4 2000", 0),
        ("load32 2000", 27),
        ("fd_readdir 5 0 1000 5 2000", 0),
        ("load32 2000", 0),
        ("fd_readdir 5 0 1000 6 2000", 0),
        ("load32 2000", 0),
        ("fd_readdir 5 0 1000 -1 2000", 0),
        ("load32 2000", 0),
    ]);
    script.run(&bench, Launch { inputs, ..launch() });

    // A program that removes what it has listed, entry by entry.
    let script = Script::new().bytes(3000, b"abcd").steps(&[
        ("path_create_directory 4 3000 1", 0),
        ("path_create_directory 4 3001 1", 0),
        ("path_create_directory 4 3002 1", 0),
        ("path_create_directory 4 3003 1", 0),
        ("fd_readdir 4 0 100 2 2000", 0),
        ("load32 2000", 100),
        ("load64 50", 5),
        ("path_remove_directory 4 3000 1", 0),
        ("path_remove_directory 4 3001 1", 0),
        ("path_remove_directory 4 3002 1", 0),
        ("fd_readdir 4 0 100 5 2000", 0),
        ("load32 2000", 25),
        ("load8 24", u64::from(b'd')),
        ("load64 0", 6),
        ("path_remove_directory 4 3003 1", 0),
        ("fd_readdir 4 0 100 6 2000", 0),
        ("load32 2000", 0),
        ("fd_readdir 4 0 100 0 2000", 0),
        ("load32 2000", 51),
    ]);
    script.run(&bench, launch());
}

/// A subscription to a clock.
fn clock(user_data: u64, clock: u32, timeout_ns: u64, flags: u16) -> Vec<u8> {
    let mut record = vec![0; 48];
    record[..8].copy_from_slice(&user_data.to_le_bytes());
    record[16..20].copy_from_slice(&clock.to_le_bytes());
    record[24..32].copy_from_slice(&timeout_ns.to_le_bytes());
    record[40..42].copy_from_slice(&flags.to_le_bytes());
    record
}

/// A subscription to a descriptor: 1 to read, 2 to write.
fn descriptor(user_data: u64, what: u8, fd: u32) -> Vec<u8> {
    let mut record = vec![0; 48];
    record[..8].copy_from_slice(&user_data.to_le_bytes());
    record[8] = what;
    record[16..20].copy_from_slice(&fd.to_le_bytes());
    record
}

#[test]
fn waiting_for_clocks_jumps_to_the_nearest_and_descriptors_are_always_ready() {
    let bench = Bench::new();
    let start_ns = launch().start_ns;
    let (second, day) = (1_000_000_000, 86_400_000_000_000);
    let clocks =
        [clock(10, 1, day, 0), clock(11, 0, start_ns + second, 1), clock(12, 1, second, 1)]
            .concat();
    let mixed = [
        descriptor(20, 1, 0),
        clock(21, 1, day, 0),
        descriptor(22, 2, 1),
        descriptor(23, 2, 77),
        clock(24, 0, 0, 0),
        descriptor(25, 1, 6),
        descriptor(26, 2, 3),
    ]
    .concat();
    let script = Script::new()
        .bytes(0, b"f")
        .bytes(1024, &clocks)
        .bytes(2048, &mixed)
        .bytes(3072, &clock(30, 2, 5, 0))
        .bytes(3120, &clock(31, 0, 5, 2))
        .bytes(3168, &descriptor(32, 3, 0))
        .bytes(3216, &clock(33, 1, u64::MAX, 0))
        .steps(&[
            (OPEN_F, 0),
            ("poll_oneoff 1024 4096 3 4092", 0),
            ("load32 4092", 2),
            ("load64 4096", 11),
            ("load16 4104", 0),
            ("load8 4106", 0),
            ("load64 4128", 12),
            ("clock_time_get 1 0 4092", 0),
            ("load64 4092", second),
            // That reading took a microsecond; looking at what is ready takes none.
            ("poll_oneoff 2048 4096 7 4092", 0),
            ("load32 4092", 6),
            ("load64 4096", 20),
            ("load16 4104", 0),
            ("load8 4106", 1),
            ("load64 4128", 22),
            ("load8 4138", 2),
            ("load64 4160", 23),
            ("load16 4168", BADF),
            ("load64 4192", 24),
            // At the end of the file there is nothing to read.
            ("load64 4224", 25),
            ("load64 4240", 0),
            ("load16 4248", 1),
            ("load64 4256", 26),
            ("load16 4264", BADF),
            ("clock_time_get 0 0 4092", 0),
            ("load64 4092", start_ns + second + 1_000),
            ("poll_oneoff 3072 4096 1 4092", 28),
            ("poll_oneoff 3120 4096 1 4092", 28),
            ("poll_oneoff 3168 4096 1 4092", 28),
            // Events over their own subscriptions.
            ("poll_oneoff 1024 1024 3 4092", 0),
            ("load64 1024", 11),
            ("load64 1056", 12),
            // To the end of time, where clocks stand still.
            ("poll_oneoff 3216 4096 1 4092", 0),
            ("clock_time_get 1 0 4092", 0),
            ("clock_time_get 1 0 4092", 0),
            ("load64 4092", u64::MAX),
        ]);
    script.run(&bench, launch());
}
