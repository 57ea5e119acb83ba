//! Compiles every guest from source and puts it to `target/guests/NAME.wasm`.
//!
//! Owns how guests are built. A Rust guest is a member of the workspace `guests/` that has a
//! `src/main.rs`; a C guest is a file `guests/c/NAME.c`. From what it finds it generates
//! `guests.rs`, which `lib.rs` includes. Invariants: nothing of the outer build's flags reaches
//! the guests, what lies in `target/guests` is always the whole file of the last build, and paths
//! of this machine are not in it.

use std::{
    env, error, fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
};

const TARGET: &str = "wasm32-wasip2";
const NO_CLANG: &str = "no clang with wasm32 support";
const INSTALL_CLANG: &str = "apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32";

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
        process::exit(1);
    }
}

fn build() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .ok_or("tests/guests lies two levels below the root")?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let place = root.join("target/guests");
    fs::create_dir_all(&place)?;

    let rust = rust_guests(&root.join("guests"))?;
    let c = c_guests(&root.join("guests/c"))?;
    watch(root, &rust);
    let built = build_rust(root, &out_dir)?;
    for name in &rust {
        put(&built.join(format!("{name}.wasm")), &place, name, root)?;
    }
    let clang = find_clang(&out_dir)?;
    for name in &c {
        let path = place.join(format!("{name}.wasm"));
        match &clang {
            Some(clang) => {
                let compiled = out_dir.join(format!("{name}.wasm"));
                build_c(clang, root, name, &compiled)?;
                put(&compiled, &place, name, root)?;
            }
            // One from an earlier build would be taken for this one.
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            },
        }
    }
    fs::write(out_dir.join("guests.rs"), generate(&place, &rust, &c, clang.is_some())?)?;
    Ok(())
}

/// The members of the workspace that are programs.
fn rust_guests(guests: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(guests)? {
        let entry = entry?;
        if entry.path().join("src/main.rs").is_file() {
            names.push(entry.file_name().into_string().map_err(|name| name.display().to_string())?);
        }
    }
    names.sort();
    Ok(names)
}

fn c_guests(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if let (Some("c"), Some(stem)) = (
            path.extension().and_then(|extension| extension.to_str()),
            path.file_stem().and_then(|stem| stem.to_str()),
        ) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Names what a guest is made of, and nothing else: tests of guests change no guest. A new guest
/// is noticed because the workspace's manifest names its members.
fn watch(root: &Path, rust: &[String]) {
    let shared =
        ["guests/Cargo.toml", "guests/Cargo.lock", "guests/c", "wit", "rust-toolchain.toml"];
    for path in shared {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for name in rust.iter().map(String::as_str).chain(["sdk"]) {
        for path in ["Cargo.toml", "src"] {
            println!(
                "cargo::rerun-if-changed={}",
                root.join("guests").join(name).join(path).display()
            );
        }
    }
    println!("cargo::rerun-if-changed={}", root.join("tests/guests/build.rs").display());
    for variable in ["PATH", "HB_CLANG", "HB_REQUIRE_ALL"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
}

/// Runs cargo on the guests' workspace and gives back where the components are.
fn build_rust(root: &Path, out_dir: &Path) -> Result<PathBuf> {
    let rustc = env::var("RUSTC")?;
    let sysroot = Command::new(&rustc).args(["--print", "sysroot"]).output()?.stdout;
    let sysroot = PathBuf::from(String::from_utf8(sysroot)?.trim());
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Err(format!(
            "the guests need the target {TARGET}, which {} does not have: run `rustup target add {TARGET}`",
            sysroot.display()
        )
        .into());
    }
    let target_dir = target_dir(out_dir).join("guests-build");
    let mut cargo = Command::new(env::var("CARGO")?);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if leaks(&name) {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo
        .current_dir(root.join("guests"))
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", remapped(root)?)
        .status()?;
    if !status.success() {
        return Err("the guests do not build: see what cargo says of them above".into());
    }
    Ok(target_dir.join(TARGET).join("release"))
}

/// Whether a variable of the outer build would change what the guests are.
fn leaks(name: &str) -> bool {
    let flags = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"];
    let prefixes = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_INCREMENTAL"];
    flags.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Flags that keep the paths of this machine out of panics and line tables, so that a guest has
/// the same digest wherever it was built.
fn remapped(root: &Path) -> Result<String> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let remap = |from: &Path, to| format!("--remap-path-prefix={}={to}", from.display());
    Ok([remap(root, "/hackbrain"), remap(&cargo_home, "/cargo")].join("\u{1f}"))
}

/// The target directory of the build that this is a part of: cargo marks it.
fn target_dir(out_dir: &Path) -> &Path {
    out_dir.ancestors().find(|path| path.join("CACHEDIR.TAG").is_file()).unwrap_or(out_dir)
}

/// A clang that compiles and links for WASI, if there is one.
fn find_clang(out_dir: &Path) -> Result<Option<String>> {
    let clang = env::var("HB_CLANG").unwrap_or_else(|_| "clang".to_owned());
    let probe = out_dir.join("probe.c");
    fs::write(&probe, "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n")?;
    let works = Command::new(&clang)
        .args(["--target=wasm32-wasi", "-o"])
        .arg(out_dir.join("probe.wasm"))
        .arg(&probe)
        .output()
        .is_ok_and(|output| output.status.success());
    if works {
        return Ok(Some(clang));
    }
    if env::var("HB_REQUIRE_ALL").is_ok_and(|all| all == "1") {
        return Err(format!(
            "{NO_CLANG}, and HB_REQUIRE_ALL=1 asks for all guests: {INSTALL_CLANG}"
        )
        .into());
    }
    Ok(None)
}

fn build_c(clang: &str, root: &Path, name: &str, to: &Path) -> Result<()> {
    let status = Command::new(clang)
        .current_dir(root.join("guests/c"))
        .args(["--target=wasm32-wasi", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(to)
        .arg(format!("{name}.c"))
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{name}.c does not compile").into()) }
}

/// Puts a built guest where users and tests look for it. The name is only ever that of a whole
/// file, also when two builds run at once; a file with the same bytes is left alone.
fn put(from: &Path, place: &Path, name: &str, root: &Path) -> Result<()> {
    let bytes = fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
    let to = place.join(format!("{name}.wasm"));
    if fs::read(&to).ok().as_ref() != Some(&bytes) {
        let temporary = place.join(format!(".{name}-{}", process::id()));
        fs::write(&temporary, &bytes)?;
        // Cargo runs this script again if a file that it watches is younger than its last run.
        // The copy is watched in case somebody deletes it, so it must not be younger.
        let age = fs::metadata(root.join("guests/Cargo.lock"))?.modified()?;
        fs::File::options().write(true).open(&temporary)?.set_modified(age)?;
        fs::rename(&temporary, &to)?;
    }
    println!("cargo::rerun-if-changed={}", to.display());
    Ok(())
}

/// The part of the library that depends on which guests there are.
fn generate(place: &Path, rust: &[String], c: &[String], clang: bool) -> Result<String> {
    let place = place.to_str().ok_or("the path of the repository is not UTF-8")?;
    let constant = |name: &str| name.replace('-', "_").to_uppercase();
    let no_clang = (!clang).then(|| format!("{NO_CLANG}: {INSTALL_CLANG}"));
    let mut guests: Vec<_> = rust.iter().map(|name| (name, "a component", None)).collect();
    guests.extend(c.iter().map(|name| (name, "a module for WASI preview 1", no_clang.as_ref())));
    let mut items = Vec::new();
    for (name, what, skipped) in &guests {
        items.push(format!("/// The guest `{name}`, {what}."));
        items.push(format!("pub const {}: Guest = Guest {{", constant(name)));
        items.push(format!("    name: {name:?},\n    path: \"{place}/{name}.wasm\","));
        items.push(format!("    skipped: {skipped:?},\n}};\n"));
    }
    items.push("/// All guests.\npub const ALL: &[Guest] = &[".to_owned());
    items.extend(guests.iter().map(|(name, ..)| format!("    {},", constant(name))));
    items.push("];\n\n#[doc(hidden)]\n#[macro_export]\nmacro_rules! __foreach_guest {".to_owned());
    items.push("    ($each:ident) => {".to_owned());
    items.extend(
        guests.iter().map(|(name, ..)| format!("        $each!({});", name.replace('-', "_"))),
    );
    items.push("    };\n}\n".to_owned());
    Ok(items.join("\n"))
}
