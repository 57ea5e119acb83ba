//! What an operator does: settings, the examination of a machine, completions and manual pages,
//! units of systemd, and traces.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::Value;

use crate::{
    guests::guest,
    support::{HB, Ran, Running, World, wait_until},
};

/// `hb` in a home of its own, without the settings of this machine.
fn hb(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.hb(arguments);
    fs::create_dir_all(world.path("here")).unwrap();
    command
        .env_remove("HB_CONFIG")
        .env("HOME", world.path("home"))
        .env("XDG_CONFIG_HOME", world.path("xdg"))
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("DOCKER_HOST")
        .current_dir(world.path("here"));
    command
}

fn run(world: &World, arguments: &[&str]) -> Ran {
    Running::start(&mut hb(world, arguments)).finish()
}

fn write(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// Where a key's value comes from, as `hb config show --origin` says.
fn origin(world: &World, arguments: &[&str], key: &str) -> (Value, Value) {
    let show =
        ["config", "show", "--origin", "--json"].into_iter().chain(arguments.iter().copied());
    let shown = run(world, &show.collect::<Vec<_>>()).ok().json();
    let settings = shown.as_array().unwrap();
    let setting = settings.iter().find(|one| one["key"] == key).unwrap();
    (setting["value"].clone(), setting["from"].clone())
}

#[test]
fn every_setting_says_which_layer_it_is_from() {
    let world = World::new();
    write(&world, "xdg/hackbrain/config.toml", "[run]\ncpus = 1\nmax_queued = 7\n");
    let local = write(&world, "here/hb.toml", "data = \"never\"\n[run]\ncpus = 2\n");
    let (value, from) = origin(&world, &[], "run.max_queued");
    assert_eq!((value, &from["kind"]), (7.into(), &Value::from("file")));
    assert!(from["path"].as_str().unwrap().ends_with("xdg/hackbrain/config.toml"), "{from}");
    let (value, from) = origin(&world, &[], "run.cpus");
    assert_eq!((value, &from["line"]), (2.into(), &3.into()));
    assert_eq!(from["path"], local.to_str().unwrap());
    let (_, from) = origin(&world, &[], "data");
    assert_eq!(from["variable"], "HB_DATA");
    let (value, from) = origin(&world, &["--data", "/elsewhere", "-v"], "data");
    assert_eq!((value, &from["flag"]), ("/elsewhere".into(), &Value::from("--data")));
    let (value, from) = origin(&world, &["-v"], "log.filter");
    assert_eq!((value, &from["flag"]), ("info".into(), &Value::from("--verbose")));
    let table = run(&world, &["config", "show", "--origin"]).ok().text();
    assert!(table.starts_with("KEY"), "{table}");
    assert!(table.contains("environment variable HB_DATA"), "{table}");
    let paths = run(&world, &["config", "path"]).ok().text();
    assert!(paths.starts_with(&format!("read    {}\n", local.display())), "{paths}");
}

#[test]
fn what_is_shown_is_a_file_that_gives_the_same() {
    let world = World::new();
    write(&world, "here/hb.toml", "[ceilings]\nmemory_bytes = \"3GiB\"\ndeadline_ms = \"90s\"\n");
    let shown = run(&world, &["config", "show"]).ok().text();
    assert!(shown.contains("memory_bytes = \"3GiB\""), "{shown}");
    let copy = write(&world, "copy.toml", &shown);
    let copy = copy.to_str().unwrap();
    run(&world, &["config", "check", copy]).ok();
    assert_eq!(run(&world, &["--config", copy, "config", "show"]).ok().text(), shown);
    let json = run(&world, &["config", "show", "--json"]).ok().json();
    assert_eq!(json["ceilings"]["deadline_ms"], 90_000);
}

#[test]
fn a_mistake_in_the_configuration_stops_every_command_that_uses_it_and_is_told_exactly() {
    let world = World::new();
    let path = write(&world, "here/hb.toml", "[serve]\n\nlistne = []\n[run]\ndrain = 30\n");
    let place = format!("{}:3:1", path.display());
    let ran = run(&world, &["jobs"]).exits(2);
    ran.complains(&[&place, "serve.listne", "did you mean serve.listen?", "1 more"]);
    assert!(!world.data().exists(), "nothing was begun");
    let check = run(&world, &["config", "check"]).exits(1).text();
    assert_eq!(check.lines().count(), 2, "{check}");
    assert!(check.contains("hb.toml:5:9: run.drain: expected a duration"), "{check}");
    let check = run(&world, &["config", "check", "--json"]).exits(1).json();
    assert_eq!(check["problems"][1]["at"]["line"], 5);
    run(&world, &["--config", "/dev/null", "config", "check"]).ok();
    run(&world, &["config", "check", "no-such.toml"]).exits(1);
    run(&world, &["completions", "bash"]).ok();
    fs::remove_file(path).unwrap();
    let mut wrong = hb(&world, &["jobs"]);
    wrong.env("HB_LOG", "hb=loud");
    Running::start(&mut wrong).finish().exits(2).complains(&["HB_LOG", "log.filter", "hb=loud"]);
}

#[test]
fn the_operators_ceilings_hold_for_jobs() {
    let world = World::new();
    write(&world, "here/hb.toml", "[ceilings]\nmemory_bytes = \"1GiB\"\n");
    let hello = guest("hello");
    run(&world, &["run", "--max-memory", "2GiB", &hello])
        .exits(2)
        .complains(&["at most 1073741824", "--max-memory"]);
    run(&world, &["run", "--max-memory", "1GiB", &hello]).ok();
}

fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("{id}: {report}"))
}

#[test]
fn the_doctor_looks_at_the_real_machine_and_leaves_it_as_it_was() {
    let world = World::new();
    run(&world, &["run", "--job-id", "h", &guest("hello")]).ok();
    let count = || fs::read_dir(world.data()).unwrap().count();
    let before = count();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut doctor = hb(&world, &["doctor", "--json"]);
    doctor.env("HB_SERVE_LISTEN", port.to_string());
    let report = Running::start(&mut doctor).finish().ok().json();
    assert_eq!(report["healthy"], true);
    for id in ["config", "data-directory", "directory-flush", "compiler", "ledger-health"] {
        assert_eq!(check(&report, id)["status"], "ok", "{}", check(&report, id));
    }
    assert!(check(&report, "ledger-health")["found"].as_str().unwrap().contains("1 jobs"));
    assert!(check(&report, "flush")["found"].as_str().unwrap().contains("median"));
    assert_eq!(count(), before);
    let text = run(&world, &["doctor"]).text();
    assert!(text.contains("compiling and running") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_mends_it() {
    let world = World::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    write(&world, "here/hb.toml", &format!("[serve]\nlisten = [\"{address}\"]\n"));
    let report = run(&world, &["doctor", "--json"]).exits(1).json();
    assert_eq!(report["healthy"], false);
    let listen = check(&report, "listen");
    assert_eq!(listen["status"], "fail");
    assert!(listen["fix"].as_str().unwrap().starts_with("ss -ltnp"), "{listen}");
    let text = run(&world, &["doctor", "-q"]).exits(1).text();
    assert!(text.contains("to mend:") && text.contains("ss -ltnp"), "{text}");
    assert!(!text.contains("free space  "), "{text}");

    write(&world, "here/hb.toml", "[sevre]\n");
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("ulimit -n 300; ulimit -v 3000000; exec \"$0\" doctor --json").arg(HB);
    let surroundings = hb(&world, &[]);
    for (name, value) in surroundings.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(world.path("here"));
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let report = Running::start(&mut limited).finish().exits(1).json();
    assert!(check(&report, "config")["found"].as_str().unwrap().contains("did you mean serve?"));
    assert_eq!(check(&report, "open-files")["status"], "warn");
    assert_eq!(check(&report, "address-space")["fix"], "ulimit -v unlimited");
    assert_eq!(check(&report, "compiler")["status"], "fail", "no memory of 4 GiB fits");
}

#[test]
fn the_doctor_names_the_owner_of_the_ledger() {
    let world = World::new();
    let arguments = ["run", "--job-id", "x", &guest("greedy"), "--", "loop"];
    let mut running = Running::start(&mut hb(&world, &arguments));
    wait_until("the job runs", || {
        let ran = world.run(["show", "x", "--json"]);
        ran.code == Some(0) && ran.json()["state"] == "RUNNING"
    });
    let report = run(&world, &["doctor", "--json"]).json();
    let owner = check(&report, "ledger-lock")["found"].as_str().unwrap().to_owned();
    assert_eq!(owner, format!("process {} (hb)", running.pid()));
    assert!(running.kill());
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&world, &["completions", shell]).ok().text();
        for word in ["doctor", "max-memory", "config"] {
            assert!(script.contains(word), "{word} in the completions for {shell}");
        }
        assert!(!script.contains("compile-component"), "{shell}: that one is nobody's business");
    }
    let script = run(&world, &["completions", "bash"]).ok().stdout;
    let path = world.path("hb.bash");
    fs::write(&path, script).unwrap();
    let complete =
        r#"source "$1"; COMP_WORDS=(hb led); COMP_CWORD=1; _hb hb led hb; echo "${COMPREPLY[@]}""#;
    let completed = Command::new("bash").args(["-c", complete, "bash"]).arg(&path).output();
    // Without bash there is nobody to complete for.
    if let Ok(completed) = completed {
        assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "ledger");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let world = World::new();
    let out = world.path("man/man1");
    run(&world, &["man", "--out", out.to_str().unwrap()]).ok();
    let pages: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["hb.1", "hb-run.1", "hb-doctor.1", "hb-ledger-repair.1", "hb-config-show.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} in {pages:?}");
    }
    assert!(!pages.iter().any(|name| name.contains("compile")), "{pages:?}");
    let page = fs::read_to_string(out.join("hb-ledger-repair.1")).unwrap();
    assert!(page.starts_with(".ie") || page.contains(".TH hb-ledger-repair 1"), "{page}");
    assert!(page.contains("hb ledger repair"), "{page}");
    assert!(run(&world, &["man"]).ok().text().contains(".TH hb 1"));
    fs::write(world.path("file"), "").unwrap();
    let inside_a_file = world.path("file/man");
    run(&world, &["man", "--out", inside_a_file.to_str().unwrap()])
        .exits(125)
        .complains(&["manual pages", "file/man"]);
}

#[test]
fn the_units_of_systemd_are_sound() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systemd");
    let world = World::new();
    let directory = world.path("units");
    fs::create_dir_all(&directory).unwrap();
    for name in ["hackbrain.service", "hackbrain.socket"] {
        // The program is not installed where the unit has it.
        let text = fs::read_to_string(units.join(name)).unwrap();
        fs::write(directory.join(name), text.replace("/usr/bin/hb", HB)).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "./hackbrain.service", "./hackbrain.socket"])
        .current_dir(&directory)
        .output();
    let Ok(verified) = verified else {
        let required = std::env::var_os("HB_REQUIRE_ALL").is_some();
        assert!(!required, "systemd-analyze is missing: run `.ci/install packages`");
        eprintln!("left out: there is no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.trim().is_empty(), "{said}");
}

/// Takes one request as a collector does, and answers 200.
fn take_traces(listener: &TcpListener) -> ExportTraceServiceRequest {
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    ExportTraceServiceRequest::decode(body.as_slice()).unwrap()
}

#[test]
fn a_command_is_a_span_of_the_trace_that_it_was_started_in() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = thread::spawn(move || take_traces(&listener));
    let mut traced = hb(&world, &["run", &guest("hello")]);
    traced
        .env("HB_TELEMETRY_OTLP_ENDPOINT", endpoint)
        .env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    Running::start(&mut traced).finish().ok();
    let sent = collector.join().unwrap();
    let scopes = sent.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    let spans: Vec<_> = scopes.flat_map(|scope| &scope.spans).collect();
    let root = spans.iter().find(|span| span.name == "hb").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    assert_eq!(hex(&root.trace_id).concat(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&root.parent_span_id).concat(), "00f067aa0ba902b7");
    let attribute = |key| format!("{:?}", root.attributes.iter().find(|one| one.key == key));
    assert!(attribute("verb").contains("\"run\""), "{root:?}");
    assert!(attribute("exit_code").contains("IntValue(0)"), "{root:?}");
    assert!(!format!("{sent:?}").contains("hello.wasm"), "arguments are nobody's business");
}

#[test]
fn a_collector_that_is_away_changes_no_answer_and_is_told_once() {
    let world = World::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut traced = hb(&world, &["run", &guest("hello")]);
    traced
        .env("HB_TELEMETRY_OTLP_ENDPOINT", format!("http://{nobody}"))
        .env("HB_LOG_FORMAT", "json");
    let ran = Running::start(&mut traced).finish().ok();
    let lines: Vec<Value> =
        ran.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let about: Vec<_> = lines
        .iter()
        .filter(|line| {
            line["message"].as_str().unwrap_or_default().contains("traces cannot be sent")
        })
        .collect();
    assert_eq!(about.len(), 1, "{}", ran.stderr);
    assert_eq!(about[0]["level"], "WARN");
}
