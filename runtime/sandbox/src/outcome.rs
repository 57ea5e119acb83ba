//! Reads how a guest ended.
//!
//! Owns: the translation of every result and error that wasmtime and the host functions can give
//! into the closed vocabulary, and the guest's backtrace in words. All text comes from a stranger
//! and is made printable here.
//!
//! Invariant: every error has a translation; none is passed on unread.

use std::fmt::{self, Write};

use hb_types::{
    limits::{Limit, LimitReached, Limits},
    outcome::{Explanation, Outcome, TrapKind},
    text,
};
use wasmtime::{FrameInfo, FrameSymbol, Trap, WasmBacktrace, component::ResourceTableError};
use wasmtime_wasi::I32Exit;

use crate::{
    abort::{Abort, HostFault},
    engine::BACKTRACE_FRAMES,
    exit_code, limiter,
    scan::NAME_BYTES,
};

/// Bytes of an explanation's line.
const MESSAGE_BYTES: usize = 500;
/// Bytes of a name before it is made printable: enough that the cut is seen.
const RAW_NAME_BYTES: usize = 4 * NAME_BYTES;

/// What wasmtime says where it has no type for it; tests hold them in place.
const TOO_MUCH_COPIED: &str = "too much data is being copied between the host and the guest";
const TOO_MANY_HANDLES: &str = "cannot allocate another handle";
const TOO_MANY_INSTANCES: &str = "resource limit exceeded";

/// How an attempt ended.
pub(crate) enum Conclusion {
    /// The job has an outcome.
    Ended(Outcome, Explanation),
    /// The session ended the attempt.
    Stopped,
    /// The host failed.
    Fault(HostFault),
}

/// Reads what came of a guest.
pub(crate) fn conclude(result: wasmtime::Result<Result<(), ()>>, limits: &Limits) -> Conclusion {
    let error = match result {
        Ok(Ok(())) => return exited(0),
        Ok(Err(())) => return exited(1),
        Err(error) => error,
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(describe).unwrap_or_default();
    let (outcome, message) = match error.downcast::<Abort>() {
        Ok(Abort::Exit(code)) => return exited(code),
        Ok(Abort::Stopped) => return Conclusion::Stopped,
        Ok(Abort::Fault(fault)) => return Conclusion::Fault(fault),
        Ok(Abort::Limit(reached)) => (Outcome::Limit { reached }, reached.to_string()),
        Ok(Abort::Cancelled) => (Outcome::Cancelled, "cancelled".to_owned()),
        Ok(Abort::Contract(message)) => {
            (trapped(TrapKind::ContractBroken), format!("the guest broke a contract: {message}"))
        }
        Err(error) => match engine_error(&error, limits) {
            Ok(found) => found,
            Err(conclusion) => return conclusion,
        },
    };
    let message = text::printable(&message, MESSAGE_BYTES);
    Conclusion::Ended(outcome, Explanation { message, backtrace })
}

fn exited(code: u8) -> Conclusion {
    let (outcome, message) = match code {
        0 => (Outcome::Success, "ended with success".to_owned()),
        code => (Outcome::Exit { code }, format!("ended with exit code {code}")),
    };
    Conclusion::Ended(outcome, Explanation { message, backtrace: Vec::new() })
}

fn trapped(trap: TrapKind) -> Outcome {
    Outcome::Trap { trap }
}

/// What wasmtime or wasmtime-wasi says.
fn engine_error(error: &wasmtime::Error, limits: &Limits) -> Result<(Outcome, String), Conclusion> {
    let limit = |limit| {
        let reached = LimitReached { limit, value: limits.get(limit), wanted: 0 };
        Ok((Outcome::Limit { reached }, reached.to_string()))
    };
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => limit(Limit::Fuel),
            trap => {
                let name = trap.to_string();
                let name = name.strip_prefix("wasm trap: ").unwrap_or(&name);
                Ok((trapped(trap_kind(*trap)), format!("the guest trapped: {name}")))
            }
        };
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return Err(exited(exit_code::low_byte(code.cast_unsigned())));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return limit(Limit::Handles);
    }
    if limiter::is_shortage(error) {
        let message = format!("the machine lacks what a job needs: {error:#}");
        return Err(Conclusion::Fault(HostFault::message(message)));
    }
    let root = error.root_cause().to_string();
    if root.starts_with(TOO_MUCH_COPIED) {
        return limit(Limit::HostcallBytes);
    }
    if root.starts_with(TOO_MANY_HANDLES) {
        return limit(Limit::Handles);
    }
    if root.starts_with(TOO_MANY_INSTANCES) {
        return limit(Limit::Instances);
    }
    Ok((trapped(TrapKind::ContractBroken), format!("the guest broke a contract: {root}")))
}

fn trap_kind(trap: Trap) -> TrapKind {
    match trap {
        Trap::StackOverflow => TrapKind::StackOverflow,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull => TrapKind::IndirectCallToNull,
        Trap::BadSignature => TrapKind::BadSignature,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::IntegerDivisionByZero => TrapKind::DivisionByZero,
        Trap::BadConversionToInteger => TrapKind::BadConversionToInteger,
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::CannotEnterComponent
        | Trap::CannotLeaveComponent
        | Trap::InvalidChar
        | Trap::StringOutOfBounds
        | Trap::ListOutOfBounds
        | Trap::InvalidDiscriminant
        | Trap::UnalignedPointer => TrapKind::ContractBroken,
        _ => TrapKind::Other,
    }
}

/// The frames, innermost first, calls that the guest's compiler inlined included.
fn describe(backtrace: &WasmBacktrace) -> Vec<String> {
    let lines = backtrace.frames().iter().flat_map(|frame| {
        let inlined: Vec<String> =
            frame.symbols().iter().map(|symbol| with_symbol(frame, symbol)).collect();
        if inlined.is_empty() { vec![without_symbols(frame)] } else { inlined }
    });
    lines.take(BACKTRACE_FRAMES).collect()
}

fn with_symbol(frame: &FrameInfo, symbol: &FrameSymbol) -> String {
    let mut line = function_name(symbol.name(), frame);
    if let Some(file) = symbol.file() {
        let _ = write!(line, " ({}", text::printable(file, NAME_BYTES));
        for number in [symbol.line(), symbol.column()].into_iter().flatten() {
            let _ = write!(line, ":{number}");
        }
        line.push(')');
    }
    line
}

fn without_symbols(frame: &FrameInfo) -> String {
    let mut line = function_name(None, frame);
    if let Some(offset) = frame.module_offset() {
        let _ = write!(line, " (byte {offset:#x})");
    }
    line
}

/// The name from the debug information or else from the name section, demangled.
fn function_name(symbol: Option<&str>, frame: &FrameInfo) -> String {
    let names = [symbol, frame.func_name()].into_iter().flatten();
    let demangled = names.clone().find_map(|name| rustc_demangle::try_demangle(name).ok());
    let mut raw = Limited(String::new());
    match (demangled, names.clone().find(|name| !name.starts_with("_Z")).or(names.clone().next())) {
        // Writing stops, with an error, where the name has become longer than is shown.
        (Some(demangled), _) => drop(write!(raw, "{demangled:#}")),
        (None, Some(name)) => drop(raw.write_str(name)),
        (None, None) => drop(write!(raw, "function {}", frame.func_index())),
    }
    text::printable(&raw.0, NAME_BYTES)
}

/// A string that takes only so much: a few bytes of a mangled name can stand for megabytes.
struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = RAW_NAME_BYTES.saturating_sub(self.0.len());
        if part.len() <= room {
            self.0.push_str(part);
            return Ok(());
        }
        let cut = (0..=room).rev().find(|at| part.is_char_boundary(*at)).unwrap_or(0);
        self.0.push_str(&part[..cut]);
        Err(fmt::Error)
    }
}
