//! The rules of the house that a compiler does not check.
//!
//! Reads the sources as text, and the graph of packages as cargo resolves it. Knows nothing of what
//! the code does.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Lines of a source file that still reads in one sitting.
const MAX_LINES: usize = 700;

/// Lines within which a file must say what it owns.
const HEADER_LINES: usize = 3;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All files of the project, relative to its root, except what is built.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && name != "target" && name != ".git" {
                directories.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "only {} files were found", found.len());
    found
}

fn with_extension(extensions: &[&str]) -> impl Iterator<Item = (PathBuf, String)> {
    let extensions: BTreeSet<String> = extensions.iter().map(|one| (*one).to_owned()).collect();
    files().into_iter().filter_map(move |path| {
        let extension = path.extension()?.to_str()?;
        extensions.contains(extension).then(|| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        })
    })
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_source_file_reads_in_one_sitting() {
    let long: Vec<_> = with_extension(&["rs", "wit", "c"])
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    report(&format!("more than {MAX_LINES} lines; cut along what knows nothing of what"), &long);
}

#[test]
fn every_source_file_opens_by_saying_what_it_owns() {
    let silent: Vec<_> = with_extension(&["rs"])
        .filter(|(_, text)| !text.lines().take(HEADER_LINES).any(|line| line.starts_with("//! ")))
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("no `//!` at the top", &silent);
}

#[test]
fn nothing_is_left_unfinished() {
    // In two halves each, so that this file does not find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ign", "ore"),
    ];
    report("unfinished", &lines_with(&marks, &["rs", "wit", "toml", "md", "sh", "c", "h"]));
}

#[test]
fn nothing_points_outside_of_the_project() {
    let marks = [concat!("/wo", "rk/"), concat!("../sha", "red"), concat!("/ro", "ot/")];
    report("a path of some machine", &lines_with(&marks, &["rs", "wit", "toml", "md", "sh", "c"]));
}

fn lines_with(marks: &[&str], extensions: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in with_extension(extensions) {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn unsafe_code_is_announced_with_its_reason() {
    let allow = concat!("allow(unsafe", "_code)");
    let silent: Vec<_> = with_extension(&["rs"])
        .filter(|(_, text)| text.contains(allow))
        .filter(|(_, text)| {
            let header = text.lines().take_while(|line| line.starts_with("//!"));
            let header: String = header.collect();
            !text.contains(&format!("#![{allow}]")) || !header.contains("unsafe")
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    report(
        "allows unsafe code, but not for the whole file or without saying why at its top",
        &silent,
    );
}

#[test]
fn guests_are_built_from_source_and_never_kept_as_binaries() {
    let binaries: Vec<_> = files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|one| one == "wasm" || one == "cwasm"))
        .map(|path| path.display().to_string())
        .collect();
    report("a compiled guest among the sources", &binaries);
}

/// What each package of ours may depend on, of ours, outside of tests. Whatever a package is not
/// listed with, it knows nothing of.
const LAYERS: &[(&str, &[&str])] = &[
    ("hb-types", &[]),
    ("hb-api", &["hb-types"]),
    ("hb-client", &["hb-api", "hb-types"]),
    ("hb-config", &["hb-types"]),
    ("hb-chaos", &["hb-api", "hb-client", "hb-config", "hb-disk", "hb-types"]),
    ("hb-telemetry", &["hb-types"]),
    ("hb-disk", &[]),
    ("hb-files", &["hb-types"]),
    ("hb-wal", &["hb-disk", "hb-types"]),
    ("hb-store", &["hb-disk", "hb-types"]),
    ("hb-seal", &["hb-types"]),
    ("hb-read-model", &["hb-types"]),
    ("hb-session", &["hb-files", "hb-types"]),
    ("hb-sandbox", &["hb-files", "hb-session", "hb-types"]),
    ("hb-container", &["hb-files", "hb-session", "hb-types"]),
    (
        "hb-host",
        &[
            "hb-container",
            "hb-disk",
            "hb-files",
            "hb-sandbox",
            "hb-seal",
            "hb-store",
            "hb-types",
            "hb-wal",
        ],
    ),
    ("hb-edge", &["hb-types"]),
    ("hb-queue-folder", &["hb-api", "hb-host", "hb-types"]),
    ("hb-http", &["hb-api", "hb-edge", "hb-host", "hb-read-model", "hb-types"]),
    ("hb-doctor", &["hb-config", "hb-host", "hb-sandbox", "hb-types"]),
    (
        "hb",
        &[
            "hb-api",
            "hb-chaos",
            "hb-client",
            "hb-config",
            "hb-disk",
            "hb-doctor",
            "hb-edge",
            "hb-host",
            "hb-http",
            "hb-queue-folder",
            "hb-sandbox",
            "hb-seal",
            "hb-store",
            "hb-telemetry",
            "hb-types",
            "hb-wal",
        ],
    ),
];

/// Packages that nothing may depend on.
const LEAVES: &[&str] = &["hb", "hb-tests", "hb-benches", "hb-guests", "hb-model", "hb-sim"];

/// Libraries that only the named packages may use themselves: who else knew them would be in
/// another layer.
const CONFINED: &[(&str, &[&str])] = &[
    ("wasmtime", &["hb-sandbox"]),
    ("wasmtime-wasi", &["hb-sandbox"]),
    ("bollard", &["hb-container"]),
    ("ed25519-dalek", &["hb-seal"]),
    ("rusqlite", &["hb-read-model"]),
    ("clap", &["hb"]),
    ("tokio-rustls", &["hb-edge"]),
    ("tower-http", &["hb-edge"]),
    ("rusqlite", &["hb-read-model"]),
];

fn own_dependencies(workspace: &str) -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join(workspace).join("Cargo.toml"))
        .other_options(["--locked".to_owned()])
        .no_deps()
        .exec()
        .unwrap();
    let shipped = |kind| kind != DependencyKind::Development;
    metadata
        .packages
        .into_iter()
        .map(|package| {
            let dependencies = package.dependencies.into_iter();
            let names = dependencies.filter(|one| shipped(one.kind)).map(|one| one.name);
            (package.name.to_string(), names.collect())
        })
        .collect()
}

#[test]
fn the_layers_hold() {
    let packages = own_dependencies(".");
    let mut broken = String::new();
    for (name, allowed) in LAYERS {
        let dependencies = packages.get(*name).unwrap_or_else(|| panic!("no package {name}"));
        for dependency in dependencies.iter().filter(|one| packages.contains_key(*one)) {
            if !allowed.contains(&dependency.as_str()) {
                writeln!(broken, "  {name} must know nothing of {dependency}").unwrap();
            }
        }
    }
    for (name, dependencies) in &packages {
        let is_tool = LEAVES.contains(&name.as_str());
        let is_layered = LAYERS.iter().any(|(layered, _)| layered == name);
        if !is_tool && !is_layered {
            writeln!(broken, "  {name} has no place in the layers: give it one").unwrap();
        }
        for leaf in LEAVES.iter().filter(|leaf| dependencies.contains(**leaf) && !is_tool) {
            writeln!(broken, "  {name} depends on {leaf}, which nothing may").unwrap();
        }
        for (library, users) in CONFINED {
            if dependencies.contains(*library) && !users.contains(&name.as_str()) && !is_tool {
                writeln!(broken, "  {name} uses {library}, which only {users:?} may").unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "the layers are broken:\n{broken}");
}

#[test]
fn guests_see_only_the_interfaces() {
    let host: BTreeSet<_> = own_dependencies(".").into_keys().collect();
    for (guest, dependencies) in own_dependencies("guests") {
        let known: Vec<_> = dependencies.intersection(&host).collect();
        assert!(known.is_empty(), "guest {guest} depends on the host's {known:?}");
    }
}
