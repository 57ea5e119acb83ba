//! Bytes that were made to do harm, and bytes that were damaged: each is answered with a named
//! error, and the process that asked is alive.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{fmt::Write, process::Command};

use common::{Bench, Ledger, launch_with, options, program::program};
use hb_sandbox::{Compiler, Control, PrepareError, Rejection, Sandbox, SandboxOptions};
use hb_types::{
    Digest,
    limits::{Limit, Limits},
};
use proptest::{
    prelude::{ProptestConfig, any},
    proptest,
};

fn refusal(bench: &Bench, binary: &[u8]) -> PrepareError {
    bench.prepare(binary).expect_err("it cannot be run")
}

fn rejection(bench: &Bench, binary: &[u8]) -> Rejection {
    match refusal(bench, binary) {
        PrepareError::Rejected(rejection) => rejection,
        other => panic!("{other}"),
    }
}

fn structure(bench: &Bench, binary: &[u8]) -> String {
    match rejection(bench, binary) {
        Rejection::Structure { what, .. } => what,
        other => panic!("{other}"),
    }
}

fn binary(bench: &Bench, source: &str) -> Vec<u8> {
    bench.sandbox.to_binary(source.as_bytes().to_vec(), &Limits::default()).unwrap()
}

/// A section of a component: id and contents.
fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend(leb(contents.len()));
    bytes.extend_from_slice(contents);
    bytes
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

/// One type: an instance type that declares an instance type, and so on.
fn nested_type(depth: usize) -> Vec<u8> {
    let mut ty = vec![0x42, 0x00];
    for _ in 1..depth {
        ty = [&[0x42, 0x01, 0x01][..], &ty].concat();
    }
    component(&[section(7, &[&[1][..], &ty].concat())])
}

#[test]
fn types_that_nest_seven_hundred_deep_are_refused_before_anything_recurses_into_them() {
    let bench = Bench::new();
    // The first is stopped by the parser, the second by our own bound.
    let deep = nested_type(700);
    assert!(deep.len() < 3_000);
    let Rejection::Malformed { message, .. } = rejection(&bench, &deep) else { panic!() };
    assert!(message.contains("nesting is too deep"), "{message}");
    assert_eq!(structure(&bench, &nested_type(80)), "levels of nested types");
    // Forty levels are allowed, and then it is found to be no program.
    assert!(matches!(rejection(&bench, &nested_type(40)), Rejection::WrongWorld { .. }));
}

#[test]
fn types_made_of_types_have_the_same_bound() {
    let bench = Bench::new();
    let chain = |length: u8| {
        let mut types = vec![length];
        types.extend([0x70, 0x7d]);
        for index in 0..length - 1 {
            types.extend([0x70, index]);
        }
        component(&[section(7, &types)])
    };
    assert_eq!(structure(&bench, &chain(100)), "levels of nested types");
    assert!(matches!(rejection(&bench, &chain(60)), Rejection::WrongWorld { .. }));
}

#[test]
fn components_that_nest_deep_are_refused() {
    let bench = Bench::new();
    let mut nested = component(&[]);
    for _ in 0..40 {
        nested = component(&[section(4, &nested)]);
    }
    assert_eq!(structure(&bench, &nested), "levels of nested components");
}

#[test]
fn instances_are_counted_as_they_would_be_written_out() {
    let bench = Bench::new();
    // Each component instantiates the one before it ten times: less than 1 KB, 10^12 instances.
    let mut source = String::from("(component (component $c0)");
    for level in 1..=12 {
        write!(source, "(component $c{level} (alias outer 1 {} (component $inner))", level - 1)
            .unwrap();
        source.push_str(&"(instance (instantiate $inner))".repeat(10));
        source.push(')');
    }
    source.push_str("(instance (instantiate $c12)))");
    let source = binary(&bench, &source);
    assert!(source.len() < 1_500);
    assert_eq!(structure(&bench, &source), "instances after expansion");
}

#[test]
fn a_component_that_comes_from_elsewhere_cannot_hide_its_instances() {
    let bench = Bench::new();
    let source = binary(
        &bench,
        r#"(component
            (component $outer (import "c" (component $c)) (instance (instantiate $c)))
            (component $inner)
            (instance (instantiate $outer (with "c" (component $inner)))))"#,
    );
    let Rejection::Invalid { message, .. } = rejection(&bench, &source) else { panic!() };
    assert!(message.contains("passed around"), "{message}");
}

#[test]
fn functions_memories_tables_and_modules_are_counted() {
    let bench = Bench::new();
    let functions = 200_001;
    let types = section(1, &[1, 0x60, 0, 0]);
    let declared = section(3, &[leb(functions), vec![0; functions]].concat());
    let bodies = section(10, &[leb(functions), [2, 0, 0x0b].repeat(functions)].concat());
    let module = [b"\0asm\x01\0\0\0".to_vec(), types, declared, bodies].concat();
    assert_eq!(structure(&bench, &module), "functions");
    let one = |body: &str| binary(&bench, &format!("(component {body})"));
    let many = |what: &str, count: usize| {
        one(&format!("(core module {})", format!("({what})").repeat(count)))
    };
    assert_eq!(structure(&bench, &many("table 1 funcref", 17)), "tables");
    assert_eq!(structure(&bench, &many("memory 1", 9)), "memories");
    assert_eq!(structure(&bench, &one(&"(core module)".repeat(101))), "core modules");
}

#[test]
fn two_hundred_thousand_functions_compile_or_are_refused_by_a_limit_within_bounds() {
    let bench = Bench::new();
    let functions = 199_000;
    let types = section(1, &[1, 0x60, 0, 0]);
    let declared = section(3, &[leb(functions), vec![0; functions]].concat());
    let memory = section(5, &[1, 0, 1]);
    let exports = section(7, b"\x02\x06_start\x00\x00\x06memory\x02\x00");
    let bodies = section(10, &[leb(functions), [2, 0, 0x0b].repeat(functions)].concat());
    let module = [b"\0asm\x01\0\0\0".to_vec(), types, declared, memory, exports, bodies].concat();
    let mut limits = Limits { compile_memory_bytes: 300 << 20, ..Limits::default() };
    let prepare = |limits: &Limits| bench.sandbox.prepare(&module, Digest::of(&module), limits);
    let refused = prepare(&limits).expect_err("300 MiB are not enough");
    let PrepareError::CompilerMemory(reached) = &refused else { panic!("{refused}") };
    assert_eq!((reached.limit, reached.value), (Limit::CompileMemory, 300 << 20));
    assert!(refused.to_string().contains("--max-compile-memory"), "{refused}");
    limits.compile_memory_bytes = Limits::default().compile_memory_bytes;
    limits.compile_ms = 20;
    let refused = prepare(&limits).expect_err("20 ms are not enough");
    let PrepareError::CompilerTime(reached) = &refused else { panic!("{refused}") };
    assert_eq!((reached.limit, reached.value), (Limit::CompileTime, 20));
    assert!(refused.to_string().contains("--max-compile-time"), "{refused}");
}

#[test]
fn each_kind_of_wrong_input_has_its_own_words() {
    let bench = Bench::new();
    let text = |source: &str| {
        bench.sandbox.to_binary(source.as_bytes().to_vec(), &Limits::default()).unwrap_err()
    };
    let says = |error: &PrepareError, expected: &[&str]| {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        for part in expected {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    };
    says(&refusal(&bench, b""), &["not WebAssembly", "nothing"]);
    says(&refusal(&bench, b"\x7fELF\x02\x01"), &["not WebAssembly", "ELF", ".wasm"]);
    says(&text("(module\n  (func (export \"_start\") (call $no)))"), &["2:", "$no"]);
    says(&text("#!/bin/sh"), &["not WebAssembly", "#!/bin/sh"]);
    let error = bench.sandbox.to_binary(vec![0xff, 0xfe, 0x00], &Limits::default()).unwrap_err();
    says(&error, &["not WebAssembly"]);
    let library = binary(&bench, r#"(module (func (export "add")) (memory (export "memory") 1))"#);
    says(&refusal(&bench, &library), &["core module", "add", "_start"]);
    let library = binary(
        &bench,
        r#"(component (component $c) (instance $i (instantiate $c))
        (export "demo:calc/sum@1.0.0" (instance $i)))"#,
    );
    says(&refusal(&bench, &library), &["demo:calc/sum@1.0.0", "wasi:cli/run"]);
    let foreign = binary(
        &bench,
        r#"(module (import "env" "evil\1b[31m" (func))
        (import "wasi_unstable" "fd_write" (func)) (func (export "_start")))"#,
    );
    says(&refusal(&bench, &foreign), &["env.evil\\u{1b}", "wasi_unstable.fd_write"]);
    let mut imports = String::new();
    for number in 0..20 {
        write!(imports, r#"(import "demo:x/y{number}@0.1.0" (instance))"#).unwrap();
    }
    let foreign = binary(&bench, &format!("(component {imports})"));
    says(&refusal(&bench, &foreign), &["demo:x/y0@0.1.0", "demo:x/y4@0.1.0", "and 15 more"]);
    let later = binary(&bench, r#"(component (import "wasi:cli/environment@0.3.0" (instance)))"#);
    says(&refusal(&bench, &later), &["wasi:cli/environment@0.3.0"]);
    let threads = binary(
        &bench,
        r#"(module (memory (export "memory") 1 1 shared)
        (func (export "_start") (drop (i32.atomic.load (i32.const 0)))))"#,
    );
    says(&refusal(&bench, &threads), &["not valid here", "threads"]);
    let missing = binary(
        &bench,
        r#"(component (import "wasi:random/random@0.2.0" (instance $r
                (export "no-such-function" (func (result u64)))))
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $m (instantiate $m))
            (func $run (result (result)) (canon lift (core func $m "run")))
            (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#,
    );
    says(&refusal(&bench, &missing), &["no-such-function"]);
    let limits = Limits { component_bytes: 7, ..Limits::default() };
    let large = bench.sandbox.to_binary(vec![b' '; 8], &limits).unwrap_err();
    says(&large, &["too large", "7 B", "8 B", "--max-component"]);
}

#[test]
fn text_that_nests_without_end_is_refused() {
    let bench = Bench::new();
    for source in [
        "(".repeat(2_000_000),
        "(component ".repeat(200_000),
        "(module (func ".to_owned() + &"(block ".repeat(500_000),
    ] {
        let refused = bench.sandbox.to_binary(source.into_bytes(), &Limits::default());
        let message = refused.expect_err("it has no end").to_string();
        assert!(!message.contains('\n') && message.len() < 2_000, "{message}");
    }
}

#[test]
fn a_real_component_cut_anywhere_is_refused() {
    let bench = Bench::new();
    let whole = binary(&bench, &program("", "(call $hex (i64.const 1))"));
    let mut truncated = 0;
    for len in (0..whole.len()).step_by(whole.len() / 60) {
        match refusal(&bench, &whole[..len]) {
            PrepareError::Rejected(Rejection::Truncated { at }) => {
                assert_eq!(at, len as u64);
                truncated += 1;
            }
            PrepareError::Rejected(
                // Cut between two sections, or before the magic number is complete.
                Rejection::WrongWorld { .. }
                | Rejection::Malformed { .. }
                | Rejection::Invalid { .. }
                | Rejection::NotWasm { .. },
            ) => {}
            other => panic!("{len} bytes: {other}"),
        }
    }
    assert!(truncated > 20, "{truncated}");
}

#[test]
fn flipped_bits_never_harm_the_host() {
    let bench = Bench::new();
    let whole = binary(&bench, &program("", "(call $hex (i64.const 1))"));
    let mut state = 1_u64;
    for _ in 0..150 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut damaged = whole.clone();
        let bit = usize::try_from(state >> 33).unwrap() % (whole.len() * 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Ok(prepared) = bench.prepare(&damaged) else { continue };
        let launch = launch_with(|limits| limits.fuel = 10_000_000);
        let ended =
            bench.sandbox.run(&prepared, launch, &mut Ledger::default(), &Control::default());
        assert!(ended.is_ok(), "bit {bit}: {ended:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn random_bytes_after_a_good_header_are_refused(
        is_component in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bench = Bench::new();
        let header: &[u8] =
            if is_component { b"\0asm\x0d\0\x01\0" } else { b"\0asm\x01\0\0\0" };
        let refused = refusal(&bench, &[header, &bytes].concat());
        assert!(refused.is_rejection(), "{refused}");
        assert!(!refused.to_string().contains(char::is_control));
    }
}

#[test]
fn a_compiler_that_is_missing_or_dies_or_lies_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let sandbox_with = |program: &str, arguments: &[&str]| {
        let compiler = Compiler {
            program: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
        };
        let cache_dir = directory.path().join("cache");
        Sandbox::open(SandboxOptions { cache_dir, compiler }).unwrap()
    };
    let prepare = |sandbox: &Sandbox, limits: &Limits| {
        sandbox.prepare(b"\0asm", Digest::of(b"\0asm"), limits).unwrap_err()
    };
    let limits = Limits::default();
    let missing = prepare(&sandbox_with("/nonexistent/hb", &[]), &limits);
    assert!(matches!(missing, PrepareError::CompilerMissing { .. }), "{missing}");
    for script in ["kill -9 $$", "kill -11 $$", "echo no good >&2; exit 9", "echo hello"] {
        let died = prepare(&sandbox_with("/bin/sh", &["-c", script]), &limits);
        assert!(matches!(died, PrepareError::CompilerDied { .. }), "{script}: {died}");
    }
    let short = Limits { compile_ms: 50, ..Limits::default() };
    let slow = prepare(&sandbox_with("/bin/sh", &["-c", "exec sleep 1000"]), &short);
    assert!(matches!(slow, PrepareError::CompilerTime(_)), "{slow}");
}

#[test]
fn the_compiler_does_nothing_without_a_request() {
    let program = options("/nonexistent".into()).compiler.program;
    let output = Command::new(program).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    assert!(!output.stderr.is_empty());
}
