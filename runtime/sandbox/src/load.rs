//! Loading compiled code.
//!
//! It must use `unsafe` because compiled code is machine code: wasmtime cannot check it, whoever
//! loads it vouches for it. Two things stand in for that here: the bytes come from this
//! installation's own compiler, either directly or through [`Cache`](crate::cache::Cache), which
//! verifies their digest; and the engine itself checks that version, settings and processor agree.
#![allow(unsafe_code)]

use wasmtime::{Engine, Module, Precompiled, component::Component};

/// Code of which it is known that it came out of this installation's compiler.
pub(crate) struct OwnCode(pub(crate) Vec<u8>);

/// What compiled code is, which it says itself.
pub(crate) enum Loaded {
    Component(Component),
    /// A core module for WASI preview 1.
    Module(Module),
}

/// Makes a component or module of compiled code.
pub(crate) fn load(engine: &Engine, code: &OwnCode) -> wasmtime::Result<Loaded> {
    // SAFETY: `OwnCode` is made in `sandbox.rs` only, of a child's answer or of a file that the
    // cache has verified.
    unsafe {
        if Engine::detect_precompiled(&code.0) == Some(Precompiled::Module) {
            Module::deserialize(engine, &code.0).map(Loaded::Module)
        } else {
            Component::deserialize(engine, &code.0).map(Loaded::Component)
        }
    }
}
