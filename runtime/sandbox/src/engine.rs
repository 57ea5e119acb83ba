//! The one configuration of wasmtime.
//!
//! Owns: every setting of the engine, identical in the host and in the child that compiles, and
//! the names by which compiled code and execution semantics are told apart. Knows nothing of
//! components, stores or jobs.
//!
//! Invariant: nothing here depends on the machine, the environment or the job. What differs from
//! job to job is set on its store (`run.rs`).

use std::hash::{Hash, Hasher};

use wasmtime::{
    Config, Engine, Inlining, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel,
    RegallocAlgorithm, Strategy, WasmBacktraceDetails, WasmFeatures,
};

/// The exact engine, which is what compiled code is bound to: the version of the execution
/// semantics, and wasmtime's. A new major version of wasmtime may count fuel differently and is a
/// new version of the semantics too.
pub const ENGINE_VERSION: &str = "hackbrain-1/wasmtime-48.0.8";

/// Fuel between two looks at cancellation and deadline: some 30 to 100 µs of guest code.
pub(crate) const YIELD_INTERVAL_FUEL: u64 = 100_000;

/// The ceiling of `stack_bytes`. It is a setting of the engine, not of the store.
const WASM_STACK_BYTES: usize = 512 * 1024;

/// Stack of a guest with the host functions that it calls. The host's part must bear a checkpoint
/// through the session and the symbolisation of a backtrace from a stranger's debug information.
const FIBER_STACK_BYTES: usize = WASM_STACK_BYTES + 2 * 1024 * 1024;

/// Frames in a backtrace.
pub(crate) const BACKTRACE_FRAMES: usize = 64;

const GIB: u64 = 1 << 30;

/// The engine, for running and for compiling alike.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    Engine::new(&config()?)
}

fn config() -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .module_version(ModuleVersionStrategy::Custom(ENGINE_VERSION.to_owned()))?;
    budget(&mut config);
    arithmetic(&mut config);
    features(&mut config);
    memory(&mut config);
    code(&mut config);
    Ok(config)
}

/// Fuel alone serves as budget and for preemption; epochs on top would be paid a second time.
fn budget(config: &mut Config) {
    config
        .consume_fuel(true)
        .epoch_interruption(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .async_stack_zeroing(false)
        .concurrency_support(false);
}

/// The same bits on every machine.
fn arithmetic(config: &mut Config) {
    config.cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
}

/// What Rust, C and `TinyGo` emit for WASI 0.2 and preview 1, and nothing else.
fn features(config: &mut Config) {
    config
        .wasm_bulk_memory(true)
        .wasm_component_model(true)
        .wasm_extended_const(true)
        .wasm_multi_value(true)
        .wasm_features(WasmFeatures::REFERENCE_TYPES, true)
        .wasm_relaxed_simd(true)
        .wasm_simd(true)
        .shared_memory(false)
        .wasm_branch_hinting(false)
        .wasm_custom_page_sizes(false)
        .wasm_features(WasmFeatures::FUNCTION_REFERENCES, false)
        .wasm_features(WasmFeatures::GC, false)
        .wasm_features(WasmFeatures::EXCEPTIONS, false)
        .wasm_features(WasmFeatures::LEGACY_EXCEPTIONS, false)
        .wasm_features(WasmFeatures::STACK_SWITCHING, false)
        .wasm_features(WasmFeatures::SHARED_EVERYTHING_THREADS, false)
        .wasm_features(WasmFeatures::THREADS, false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_features(
            WasmFeatures::CM_ASYNC
                | WasmFeatures::CM_ASYNC_STACKFUL
                | WasmFeatures::CM_ERROR_CONTEXT
                | WasmFeatures::CM_FIXED_LENGTH_LISTS
                | WasmFeatures::CM_GC
                | WasmFeatures::CM_IMPLEMENTS
                | WasmFeatures::CM_MAP
                | WasmFeatures::CM_MORE_ASYNC_BUILTINS
                | WasmFeatures::CM_THREADING
                | WasmFeatures::CM64,
            false,
        );
}

/// Memories never move: 4 GiB of address space each, guarded, so that an access costs no check.
fn memory(config: &mut Config) {
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(4 * GIB)
        .memory_reservation_for_growth(0)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .guard_before_linear_memory(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(16 << 20)
        .force_memory_init_memfd(false)
        .table_lazy_init(true)
        .signals_based_traps(true);
}

/// Speed of the code, and what a backtrace needs.
fn code(config: &mut Config) {
    config
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        .cranelift_debug_verifier(false)
        .compiler_inlining(Inlining::No)
        .parallel_compilation(true)
        .debug_info(false)
        .generate_address_map(true)
        // Backtraces follow frame pointers; only foreign debuggers and profilers miss it.
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
}

/// What compiled code depends on besides the component: version and settings.
pub(crate) fn compatibility(engine: &Engine) -> blake3::Hash {
    struct Blake3(blake3::Hasher);
    impl Hasher for Blake3 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Blake3(blake3::Hasher::new());
    ENGINE_VERSION.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize()
}
