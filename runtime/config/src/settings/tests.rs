//! Which value wins, and what is said of one that is wrong.
#![allow(clippy::unwrap_used)]

use std::{fs, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{config::LogFormat, machine::GroupLimits};

/// A machine with a home, a working directory and files.
struct World {
    dir: TempDir,
    around: Surroundings,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let environment = BTreeMap::from([
            ("HOME".to_owned(), at("home").into()),
            ("XDG_CONFIG_HOME".to_owned(), at("xdg").into()),
        ]);
        let machine = Machine {
            cpus: 6,
            memory_bytes: Some(10 << 30),
            available_bytes: Some(8 << 30),
            group: GroupLimits::default(),
        };
        let directory = dir.path().join("here");
        fs::create_dir_all(&directory).unwrap();
        Self { around: Surroundings { environment, directory, machine }, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn set(&mut self, variable: &str, value: &str) {
        self.around.environment.insert(variable.to_owned(), value.into());
    }

    fn load(&self) -> Loaded {
        load(&self.around, None, &[]).unwrap()
    }

    fn complains(&self) -> String {
        load(&self.around, None, &[]).unwrap_err().to_string()
    }
}

fn origin(loaded: &Loaded, key: &str) -> String {
    let setting = loaded.settings.iter().find(|setting| setting.key.name == key).unwrap();
    setting.origin.to_string()
}

fn addresses(texts: &[&str]) -> Vec<std::net::SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn data_flag(value: &str) -> Flag {
    Flag { key: "data", flag: "--data".to_owned(), value: value.into() }
}

#[test]
fn without_anything_the_defaults_hold() {
    let world = World::new();
    let loaded = world.load();
    let config = &loaded.config;
    assert_eq!(config.data, world.path("home/.local/share/hackbrain"));
    assert_eq!(config.serve.listen, addresses(&["127.0.0.1:4005"]));
    assert_eq!((config.run.cpus, config.run.memory_bytes), (6, 8192 << 20));
    assert_eq!(config.run.drain, Duration::from_secs(30));
    assert_eq!(config.ceilings, hb_types::limits::Limits::ceilings());
    assert_eq!(config.queue.dir, world.path("home/.local/share/hackbrain"));
    assert_eq!(config.retention.max_jobs, None);
    assert_eq!(config.log.format, LogFormat::Text);
    assert!(loaded.settings.iter().all(|setting| setting.origin == Origin::Default));
    let states: Vec<_> = loaded.files.iter().map(|file| file.state).collect();
    assert_eq!(states[..2], [FileState::Absent, FileState::Absent]);
    assert_eq!(loaded.files[2].path, Path::new("/etc/hackbrain/config.toml"));
    assert_eq!(locate(&world.around, None), loaded.files);
}

#[test]
fn each_layer_is_stronger_than_the_next() {
    let mut world = World::new();
    world.write("xdg/hackbrain/config.toml", "data = \"/user\"\n[run]\ncpus = 1\ndrain = \"1s\"\n");
    let loaded = world.load();
    assert_eq!(loaded.config.data, Path::new("/user"));
    let user = world.path("xdg/hackbrain/config.toml");
    assert_eq!(origin(&loaded, "data"), format!("{}:1:8", user.display()));

    let local = world.write("here/hb.toml", "data = \"local\"\n[run]\ncpus = 2\n");
    let loaded = world.load();
    assert_eq!(loaded.config.data, world.path("here/local"));
    assert_eq!(origin(&loaded, "data"), format!("{}:1:8", local.display()));
    assert_eq!((loaded.config.run.cpus, loaded.config.run.drain.as_secs()), (2, 1));

    world.set("HB_DATA", "from-variable");
    world.set("HB_RUN_CPUS", "3");
    let loaded = world.load();
    assert_eq!(loaded.config.data, Path::new("from-variable"));
    assert_eq!(loaded.config.queue.dir, Path::new("from-variable"));
    assert_eq!(loaded.config.run.cpus, 3);
    assert_eq!(origin(&loaded, "run.cpus"), "environment variable HB_RUN_CPUS");
    assert_eq!(origin(&loaded, "run.drain"), format!("{}:4:9", user.display()));

    let loaded = load(&world.around, None, &[data_flag("from-flag")]).unwrap();
    assert_eq!(loaded.config.data, Path::new("from-flag"));
    assert_eq!(origin(&loaded, "data"), "--data");
}

#[test]
fn a_file_that_was_named_is_the_only_one() {
    let mut world = World::new();
    world.write("here/hb.toml", "[run]\ncpus = 2\n");
    let named = world.write("named.toml", "[serve]\nauth = \"required\"\n");
    let loaded = load(&world.around, Some(&named), &[]).unwrap();
    assert_eq!((loaded.config.run.cpus, loaded.files.len()), (6, 1));
    assert_eq!(loaded.config.serve.auth, crate::Auth::Required);
    world.set("HB_CONFIG", named.to_str().unwrap());
    assert_eq!(world.load().files[0].path, named);
    world.set("HB_CONFIG", "/no/such/file");
    assert!(world.complains().starts_with("/no/such/file: cannot be read: "));
}

#[test]
fn an_empty_variable_is_none_and_one_that_looks_like_a_key_must_be_one() {
    let mut world = World::new();
    world.set("HB_RUN_CPUS", "");
    world.set("HB_TOKEN", "somebody else's");
    assert_eq!(world.load().config.run.cpus, 6);
    world.set("HB_SERVE_LISTN", "127.0.0.1:1");
    assert_eq!(
        world.complains(),
        "environment variable HB_SERVE_LISTN: no key is set by it: did you mean HB_SERVE_LISTEN?"
    );
}

#[test]
fn values_of_variables_are_read_by_their_kind() {
    let mut world = World::new();
    world.set("HB_SERVE_LISTEN", "127.0.0.1:1, [::1]:2");
    world.set("HB_CEILINGS_MEMORY_BYTES", "2GiB");
    world.set("HB_CEILINGS_DEADLINE_MS", "90s");
    world.set("HB_CEILINGS_FUEL", "none");
    world.set("HB_LOG", "debug");
    let config = world.load().config;
    assert_eq!(config.serve.listen, addresses(&["127.0.0.1:1", "[::1]:2"]));
    assert_eq!(config.ceilings.memory_bytes, 2 << 30);
    assert_eq!((config.ceilings.deadline_ms, config.ceilings.fuel), (90_000, u64::MAX));
    assert_eq!(config.log.filter.as_deref(), Some("debug"));
    world.set("HB_CEILINGS_DEADLINE_MS", "90000");
    assert_eq!(
        world.complains(),
        "environment variable HB_CEILINGS_DEADLINE_MS: ceilings.deadline_ms: expected a duration \
         such as \"30s\" or \"1h 30m\", or \"none\", found \"90000\""
    );
}

#[test]
fn a_stronger_layer_can_take_back_what_a_weaker_one_set() {
    let mut world = World::new();
    world.write("here/hb.toml", "[retention]\nmax_jobs = 10\n");
    assert_eq!(world.load().config.retention.max_jobs, Some(10));
    world.set("HB_RETENTION_MAX_JOBS", "none");
    assert_eq!(world.load().config.retention.max_jobs, None);
}

#[test]
fn everything_that_is_wrong_is_told_in_the_order_of_the_file() {
    let world = World::new();
    let path = world.write("here/hb.toml", "zzz = 1\naaa = 2\n[run]\ncpus = 0\n");
    let error = load(&world.around, None, &[]).unwrap_err();
    let places: Vec<_> = error.problems.iter().map(|problem| problem.place.to_string()).collect();
    let at = |place: &str| format!("{}:{place}", path.display());
    assert_eq!(places, [at("1:1"), at("2:1"), at("4:8")]);
    assert!(error.to_string().ends_with("(and 2 more: `hb config check`)"), "{error}");
}

#[test]
fn a_certificate_needs_its_key() {
    let world = World::new();
    let path = world.write("here/hb.toml", "[serve]\ntls_cert = \"c.pem\"\n");
    assert_eq!(
        world.complains(),
        format!(
            "{}:2:12: serve.tls_cert is set but serve.tls_key is not: set both or none",
            path.display()
        )
    );
    assert!(load_alone(&world.around, &path).is_err());
    fs::write(&path, "[serve]\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n").unwrap();
    load_alone(&world.around, &path).unwrap();
    assert_eq!(world.load().config.serve.tls_key.unwrap(), world.path("here/k.pem"));
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let world = World::new();
    let path = world.write("big.toml", &"#".repeat((1 << 20) + 1));
    let refused = |path: &Path| load_alone(&world.around, path).unwrap_err().to_string();
    assert!(refused(&path).contains("more than 1048576 bytes"));
    assert!(refused(&world.path("here")).contains("cannot be read"));
    fs::write(&path, b"data = \"\xff\"").unwrap();
    assert!(refused(&path).contains("cannot be read"));
}

#[test]
fn a_file_of_somebody_else_in_the_working_directory_is_refused() {
    let world = World::new();
    let path = world.write("here/hb.toml", "data = \"/stolen\"\n");
    // Only root can give a file away; as anybody else there is nothing to try.
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
        return;
    }
    let error = world.complains();
    assert!(error.contains("belongs to user 12345") && error.contains("--config"), "{error}");
    assert!(load(&world.around, Some(&path), &[]).is_ok(), "who names it trusts it");
}

#[test]
fn without_a_home_the_data_directory_must_be_given() {
    let mut world = World::new();
    world.around.environment.remove("HOME");
    assert!(world.complains().contains("set HB_DATA or give --data DIR"));
    assert!(load(&world.around, None, &[data_flag("d")]).is_ok());
}

#[test]
fn a_path_may_be_any_that_the_system_has_and_all_else_is_text() {
    use std::os::unix::ffi::OsStrExt;

    let mut world = World::new();
    let path = OsStr::from_bytes(b"/data/\xff").to_owned();
    world.around.environment.insert("HB_DATA".to_owned(), path.clone());
    assert_eq!(world.load().config.data, Path::new(&path));
    world.around.environment.insert("HB_RUN_CPUS".to_owned(), path);
    assert!(world.complains().contains("HB_RUN_CPUS: run.cpus: expected a whole number"));
}
