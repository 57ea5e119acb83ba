//! A first look at a stranger's bytes.
//!
//! Owns: the bounds on the structure of a component, the list of interfaces that exist here, and
//! the words for what is wrong. It reads sections with a parser that refuses deep nesting, and
//! holds nothing that grows faster than the input; it does not validate. It runs in the compiling
//! child, before any older parser sees the bytes.
//!
//! Invariant: the work is linear in the size of the input.

use hb_types::text;
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentImport, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, ExternalKind, Instance, Parser, Payload,
    TypeRef,
};

use crate::{error::Rejection, preview1, type_depth::TypeDepths};

/// Components inside components.
const NESTING: usize = 32;
/// Types inside or made of types.
const TYPE_NESTING: u32 = 64;
/// Instances after every instantiation is written out. Validators accept sixty lines that expand
/// to billions; the compiler does write them out.
const EXPANDED_INSTANCES: u64 = 1_000;
const CORE_MODULES: u64 = 100;
const MEMORIES: u64 = 8;
const TABLES: u64 = 16;
const FUNCTIONS: u64 = 200_000;
/// By this function the adapter of preview 1 asks a module for memory. From a module without it it
/// would take memory by `memory.grow`, behind the back of the module's allocator, and one of the
/// two would write over the other.
const REALLOC: &str = "cabi_realloc";
/// Unknown imports that are named in an error.
const NAMED_IMPORTS: usize = 5;
/// Bytes of a stranger's name in an error.
pub(crate) const NAME_BYTES: usize = 200;

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A core module that imports nothing but WASI preview 1.
    Preview1,
    /// A core module that imports interfaces of components by their core names as well.
    Module,
    /// A component.
    Component,
}

/// The interfaces that a component may import: package, interfaces, and how versions begin.
const INTERFACES: &[(&str, &[&str], &str)] = &[
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
        "0.2.",
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"], "0.2."),
    ("wasi:filesystem", &["preopens", "types"], "0.2."),
    ("wasi:io", &["error", "poll", "streams"], "0.2."),
    ("wasi:random", &["insecure", "insecure-seed", "random"], "0.2."),
    (
        "wasi:sockets",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
        "0.2.",
    ),
    ("hackbrain:job", &["checkpoint", "process", "progress"], "0.1."),
];

/// Reads every section header and refuses what is not a program within the bounds.
pub(crate) fn scan(bytes: &[u8]) -> Result<Kind, Rejection> {
    if !bytes.starts_with(b"\0asm") {
        return Err(not_wasm(bytes));
    }
    let mut scan = Scan::default();
    for payload in Parser::new(0).parse_all(bytes) {
        payload
            .map_err(Stop::from)
            .and_then(|payload| scan.payload(&payload))
            .map_err(|stop| stop.into_rejection(bytes.len() as u64))?;
    }
    scan.verdict()
}

/// The same answer for bytes that never had the magic number.
pub(crate) fn not_wasm(bytes: &[u8]) -> Rejection {
    let found = if bytes.is_empty() {
        "nothing".to_owned()
    } else {
        format!("\"{}\"", text::printable_bytes(&bytes[..bytes.len().min(16)], 64))
    };
    Rejection::NotWasm { found }
}

/// Why the scan stopped.
enum Stop {
    Parser(BinaryReaderError),
    Rejected(Rejection),
}

impl From<BinaryReaderError> for Stop {
    fn from(error: BinaryReaderError) -> Self {
        Self::Parser(error)
    }
}

impl Stop {
    fn into_rejection(self, len_bytes: u64) -> Rejection {
        match self {
            Self::Rejected(rejection) => rejection,
            Self::Parser(error) => {
                let at = error.offset();
                if error.message().starts_with("unexpected end") && at <= len_bytes {
                    return Rejection::Truncated { at: len_bytes };
                }
                let message = text::printable(error.message(), NAME_BYTES);
                Rejection::Malformed { at, message }
            }
        }
    }
}

/// A component or module that is being read.
struct Level {
    encoding: Encoding,
    /// Instances that one instantiation of this level makes, itself not counted.
    instances: u64,
    /// The same with itself, for each component of its index space.
    components: Vec<u64>,
}

#[derive(Default)]
struct Scan {
    levels: Vec<Level>,
    types: TypeDepths,
    core_modules: u64,
    memories: u64,
    tables: u64,
    functions: u64,
    root: Option<Root>,
}

/// What decides how a core module is run.
#[derive(Default)]
struct CoreModule {
    imports_interfaces: bool,
    imports_preview1: bool,
    exports_realloc: bool,
}

/// What the outermost module or component shows to the world.
struct Root {
    kind: Kind,
    exports: Vec<String>,
    core: CoreModule,
    is_program: bool,
    unknown: Vec<String>,
    unknown_count: u64,
}

impl Scan {
    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::Version { encoding, .. } => self.enter(*encoding),
            Payload::End(_) => {
                self.leave();
                Ok(())
            }
            Payload::FunctionSection(section) => {
                count(&mut self.functions, section.count(), "functions", FUNCTIONS)
            }
            Payload::MemorySection(section) => {
                count(&mut self.memories, section.count(), "memories", MEMORIES)
            }
            Payload::TableSection(section) => {
                count(&mut self.tables, section.count(), "tables", TABLES)
            }
            Payload::ImportSection(section) if self.at_root() => {
                section.clone().into_imports().try_for_each(|import| {
                    self.core_import(&import?);
                    Ok(())
                })
            }
            Payload::ExportSection(section) if self.at_root() => {
                section.clone().into_iter().try_for_each(|export| {
                    let export = export?;
                    let is_function = export.kind == ExternalKind::Func;
                    self.export(export.name, is_function && export.name == "_start");
                    let root = self.root.as_mut().expect("exports stand inside the root");
                    root.core.exports_realloc |= is_function && export.name == REALLOC;
                    Ok(())
                })
            }
            other => self.component_payload(other),
        }
    }

    fn component_payload(&mut self, payload: &Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                section.clone().into_iter().try_for_each(|ty| {
                    let depth = self.types.define(&ty?);
                    bounded(u64::from(depth), "levels of nested types", u64::from(TYPE_NESTING))
                })
            }
            Payload::InstanceSection(section) => {
                section.clone().into_iter().try_for_each(|instance| match instance? {
                    Instance::Instantiate { .. } => self.instances(1),
                    Instance::FromExports(_) => Ok(()),
                })
            }
            Payload::ComponentInstanceSection(section) => {
                section.clone().into_iter().try_for_each(|instance| match instance? {
                    ComponentInstance::Instantiate { component_index, .. } => {
                        let made = self.component(0, component_index);
                        self.instances(made)
                    }
                    ComponentInstance::FromExports(_) => Ok(()),
                })
            }
            Payload::ComponentAliasSection(section) => {
                section.clone().into_iter().try_for_each(|alias| self.alias(&alias?))
            }
            Payload::ComponentImportSection(section) => {
                section.clone().into_iter().try_for_each(|import| self.import(&import?))
            }
            Payload::ComponentExportSection(section) => {
                section.clone().into_iter().try_for_each(|export| {
                    let export = export?;
                    self.component_export(export.name.name, export.kind, export.index);
                    Ok(())
                })
            }
            _ => Ok(()),
        }
    }

    fn at_root(&self) -> bool {
        self.levels.len() == 1
    }

    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the parser opens a level before any section")
    }

    fn enter(&mut self, encoding: Encoding) -> Result<(), Stop> {
        let kind = if encoding == Encoding::Module { Kind::Module } else { Kind::Component };
        self.root.get_or_insert_with(|| Root {
            kind,
            exports: Vec::new(),
            core: CoreModule::default(),
            is_program: false,
            unknown: Vec::new(),
            unknown_count: 0,
        });
        self.levels.push(Level { encoding, instances: 0, components: Vec::new() });
        bounded(self.levels.len() as u64, "levels of nested components", NESTING as u64)?;
        match kind {
            Kind::Preview1 | Kind::Module => {
                count(&mut self.core_modules, 1, "core modules", CORE_MODULES)
            }
            Kind::Component => {
                self.types.enter();
                Ok(())
            }
        }
    }

    fn leave(&mut self) {
        let level = self.levels.pop().expect("the parser closes only what it opened");
        if level.encoding == Encoding::Component {
            self.types.leave();
            if let Some(parent) = self.levels.last_mut() {
                parent.components.push(level.instances.saturating_add(1));
            }
        }
    }

    /// Instances made by one instantiation of component `index`, `outer` levels up. Out of range
    /// is left to the validator, which refuses it.
    fn component(&self, outer: u32, index: u32) -> u64 {
        let level = self.levels.len().checked_sub(1 + outer as usize);
        level
            .and_then(|level| self.levels[level].components.get(index as usize))
            .copied()
            .unwrap_or(1)
    }

    fn instances(&mut self, made: u64) -> Result<(), Stop> {
        let level = self.top();
        level.instances = level.instances.saturating_add(made);
        bounded(level.instances, "instances after expansion", EXPANDED_INSTANCES)
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), Stop> {
        match *alias {
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                let made = self.component(count, index);
                self.top().components.push(made);
                Ok(())
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, count, index } => {
                self.types.alias(count, index);
                Ok(())
            }
            ComponentAlias::InstanceExport { kind, .. } => self.foreign(kind),
            ComponentAlias::Outer { .. } | ComponentAlias::CoreInstanceExport { .. } => Ok(()),
        }
    }

    /// Something whose definition is not in sight. How many instances a component makes that
    /// arrives as an argument cannot be counted, and no tool in use emits one.
    fn foreign(&mut self, kind: ComponentExternalKind) -> Result<(), Stop> {
        match kind {
            ComponentExternalKind::Component => Err(Stop::Rejected(Rejection::Invalid {
                message: "a component is passed around as a value".to_owned(),
                advice: "compose it with its parts inside".to_owned(),
            })),
            ComponentExternalKind::Type => {
                self.types.unknown();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn import(&mut self, import: &ComponentImport<'_>) -> Result<(), Stop> {
        if self.at_root() {
            let is_instance = matches!(import.ty, ComponentTypeRef::Instance(_));
            if !(is_instance && is_known(import.name.name)) {
                self.unknown(import.name.name);
            }
        }
        match import.ty {
            ComponentTypeRef::Type(_) => self.foreign(ComponentExternalKind::Type),
            ComponentTypeRef::Component(_) if !self.at_root() => {
                self.foreign(ComponentExternalKind::Component)
            }
            _ => Ok(()),
        }
    }

    fn core_import(&mut self, import: &wasmparser::Import<'_>) {
        let is_function = matches!(import.ty, TypeRef::Func(_));
        let is_interface = is_known(import.module);
        let is_preview1 = import.module == preview1::MODULE && preview1::is_function(import.name);
        if !(is_function && (is_interface || is_preview1)) {
            self.unknown(&format!("{}.{}", import.module, import.name));
        }
        let root = self.root.as_mut().expect("imports stand inside the root");
        root.core.imports_interfaces |= is_interface;
        root.core.imports_preview1 |= is_preview1;
    }

    fn unknown(&mut self, name: &str) {
        let root = self.root.as_mut().expect("imports stand inside the root");
        if root.unknown.len() < NAMED_IMPORTS {
            root.unknown.push(text::printable(name, NAME_BYTES));
        } else {
            root.unknown_count += 1;
        }
    }

    fn component_export(&mut self, name: &str, kind: ComponentExternalKind, index: u32) {
        match kind {
            ComponentExternalKind::Component => {
                let made = self.component(0, index);
                self.top().components.push(made);
            }
            ComponentExternalKind::Type => self.types.alias(0, index),
            _ => {}
        }
        if self.at_root() {
            let is_run = kind == ComponentExternalKind::Instance
                && name.strip_prefix("wasi:cli/run@0.2.").is_some_and(|rest| !rest.is_empty());
            self.export(name, is_run);
        }
    }

    fn export(&mut self, name: &str, is_program: bool) {
        let root = self.root.as_mut().expect("exports stand inside the root");
        root.is_program |= is_program;
        if root.exports.len() < NAMED_IMPORTS {
            root.exports.push(text::printable(name, NAME_BYTES));
        }
    }

    fn verdict(self) -> Result<Kind, Rejection> {
        let root = self.root.expect("a parse without error has at least a header");
        if !root.unknown.is_empty() {
            return Err(Rejection::UnknownImports {
                names: root.unknown,
                more: root.unknown_count,
            });
        }
        let CoreModule { imports_interfaces, imports_preview1, exports_realloc } = root.core;
        if imports_interfaces && imports_preview1 && !exports_realloc {
            return Err(Rejection::Invalid {
                message: format!(
                    "it imports WASI preview 1 and other interfaces, but exports no `{REALLOC}`"
                ),
                advice: "build it with a bindings generator, which exports that function, or \
                         import nothing but preview 1"
                    .to_owned(),
            });
        }
        if root.is_program {
            return Ok(match root.kind {
                Kind::Module if !imports_interfaces => Kind::Preview1,
                kind => kind,
            });
        }
        let exports =
            if root.exports.is_empty() { "nothing".to_owned() } else { root.exports.join(", ") };
        let (what, wanted) = match root.kind {
            Kind::Preview1 | Kind::Module => {
                ("this core module", "`_start`, as a program for wasm32-wasip1 does")
            }
            Kind::Component => {
                ("this component", "`wasi:cli/run@0.2`, as a program for wasm32-wasip2 does")
            }
        };
        Err(Rejection::WrongWorld {
            found: format!("{what} is not a program: it exports {exports}"),
            expected: format!("build it so that it exports {wanted}"),
        })
    }
}

/// Whether the linker has this interface.
fn is_known(name: &str) -> bool {
    let Some((path, version)) = name.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    INTERFACES.iter().any(|(known, interfaces, prefix)| {
        *known == package
            && interfaces.contains(&interface)
            && version.strip_prefix(prefix).is_some_and(|patch| patch.parse::<u32>().is_ok())
    })
}

fn count(total: &mut u64, found: u32, what: &str, allowed: u64) -> Result<(), Stop> {
    *total = total.saturating_add(u64::from(found));
    bounded(*total, what, allowed)
}

fn bounded(found: u64, what: &str, allowed: u64) -> Result<(), Stop> {
    if found > allowed {
        let what = what.to_owned();
        return Err(Stop::Rejected(Rejection::Structure { what, found, allowed }));
    }
    Ok(())
}
