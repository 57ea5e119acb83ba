//! Core modules that import other interfaces beside WASI preview 1 become components. Those that
//! import nothing else run as they are (`preview1`).
//!
//! Owns: which adapter is used, and the exit code, which the adapter would lose: preview 1 knows
//! numbers, WASI 0.2 knows success and failure. So `proc_exit` is led past the adapter, to
//! `hackbrain:job/process.exit`, which has the same shape. A module that imports the functions of
//! `hackbrain:job` by their core names is given the types of those interfaces, so that C without
//! a bindings generator can use them. Such a module must export `cabi_realloc`, through which the
//! adapter takes its memory; the scan sees to that. Runs in the compiling child only.

use std::collections::BTreeSet;

use hb_types::text;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasm_encoder::{
    ImportSection, Module,
    reencode::{Error as ReencodeError, Reencode},
};
use wasmparser_254::{ImportSectionReader, Parser};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::error::Rejection;

const JOB_WIT: &str = include_str!("../../../wit/job.wit");
const EXIT_MODULE: &str = "hackbrain:job/process@0.1.0";
const EXIT_NAME: &str = "exit";
const PROC_EXIT: &str = "proc_exit";
/// What an adapted module may import beyond preview 1.
const INTERFACES: [&str; 3] =
    ["hackbrain:job/checkpoint@0.1.0", "hackbrain:job/progress@0.1.0", EXIT_MODULE];

/// Bytes of a tool's message.
const MESSAGE_BYTES: usize = 500;

/// The component that runs `module`.
pub(crate) fn adapt(module: &[u8]) -> Result<Vec<u8>, Rejection> {
    try_adapt(module).map_err(|message| Rejection::Invalid {
        message: format!("it cannot be adapted to WASI 0.2: {message}"),
        advice: "build it for wasm32-wasip2, or as a plain command for wasm32-wasip1".to_owned(),
    })
}

fn try_adapt(module: &[u8]) -> Result<Vec<u8>, String> {
    let mut reencoder = Imports::default();
    let mut renamed = Module::new();
    reencoder
        .parse_core_module(&mut renamed, Parser::new(0), module)
        .map_err(|error| one_line(&error))?;
    let mut module = renamed.finish();
    if !reencoder.interfaces.is_empty() {
        embed(&reencoder.interfaces, &mut module)?;
    }
    ComponentEncoder::default()
        .validate(false)
        .module(&module)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
            )
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| one_line(&format!("{error:#}")))
}

/// Says in the module's metadata what types its imports have.
fn embed(interfaces: &BTreeSet<&str>, module: &mut Vec<u8>) -> Result<(), String> {
    let mut world = "package hackbrain:adapted;\nworld program {\n".to_owned();
    for interface in interfaces {
        world.extend(["import ", interface, ";\n"]);
    }
    world.push('}');
    let mut resolve = Resolve::default();
    resolve.push_str("job.wit", JOB_WIT).expect("our own interfaces parse");
    let package = resolve.push_str("adapted.wit", &world).expect("our own world parses");
    let world = resolve.select_world(&[package], Some("program")).expect("it was just made");
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| one_line(&format!("{error:#}")))
}

fn one_line(message: &impl ToString) -> String {
    text::printable(&message.to_string(), MESSAGE_BYTES)
}

/// Copies a module, leads `proc_exit` elsewhere and notes which of our interfaces it imports.
#[derive(Default)]
struct Imports {
    interfaces: BTreeSet<&'static str>,
}

impl Reencode for Imports {
    type Error = std::convert::Infallible;

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), ReencodeError<Self::Error>> {
        for import in section.into_imports() {
            let import = import?;
            let ty = self.entity_type(import.ty)?;
            let (module, name) = match (import.module, import.name) {
                (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, PROC_EXIT) => (EXIT_MODULE, EXIT_NAME),
                other => other,
            };
            imports.import(module, name, ty);
            self.interfaces.extend(INTERFACES.iter().find(|interface| **interface == module));
        }
        Ok(())
    }
}
