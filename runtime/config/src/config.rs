//! The configuration as those see it who act by it: sections with typed fields.
//!
//! Owns: the way from checked values to fields. Knows nothing of files and origins.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use hb_types::limits::{Limit, Limits};

use crate::{settings::Setting, value::Value};

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of the ledger.
    pub data: PathBuf,
    /// How the host is reached.
    pub serve: Serve,
    /// How jobs are run.
    pub run: Run,
    /// The most that a job may ask for.
    pub ceilings: Limits,
    /// What is removed, and when.
    pub retention: Retention,
    /// The directory into which manifests are dropped.
    pub queue: Queue,
    /// How native programs are run.
    pub container: Container,
    /// What is logged.
    pub log: Log,
    /// Where traces go.
    pub telemetry: Telemetry,
}

/// How the host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// Addresses on which it answers; at least one.
    pub listen: Vec<SocketAddr>,
    /// PEM file with its certificates; set together with the key.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its key.
    pub tls_key: Option<PathBuf>,
    /// Whether it answers without TLS on other addresses than loopback.
    pub allow_plain_text: bool,
    /// Names under which it may be asked.
    pub allowed_hosts: Vec<String>,
    /// Who needs a token.
    pub auth: Auth,
    /// Connections at once.
    pub max_connections: u32,
    /// Bytes of the largest component.
    pub max_body_bytes: u64,
    /// Address for links in answers.
    pub public_url: Option<String>,
}

/// Who needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Whoever does not come over loopback.
    Auto,
    /// Everybody.
    Required,
}

/// How jobs are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Processors that jobs share.
    pub cpus: u32,
    /// Bytes of memory that jobs share.
    pub memory_bytes: u64,
    /// Jobs that may wait.
    pub max_queued: u32,
    /// How long a host that stops waits for running jobs.
    pub drain: Duration,
    /// Crashes without a new checkpoint after which a job is set aside.
    pub poison_after: u32,
}

/// What is removed, and when. `None` removes nothing for that reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Age of a job that has ended.
    pub max_age: Option<Duration>,
    /// Number of jobs that have ended.
    pub max_jobs: Option<u64>,
    /// Bytes that they hold.
    pub max_bytes: Option<u64>,
    /// Time between two looks.
    pub every: Duration,
}

/// The directory into which manifests are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Whether it is looked at.
    pub enabled: bool,
    /// Which.
    pub dir: PathBuf,
}

/// How native programs are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Address of the engine; `None` leaves it to be found.
    pub engine: Option<String>,
    /// Directories that containers may see, some with `:rw`.
    pub mounts: Vec<String>,
    /// Names of grants that a job may ask for.
    pub grants: Vec<String>,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How.
    pub format: LogFormat,
    /// What; `None` leaves it to the command.
    pub filter: Option<String>,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Address of the collector.
    pub otlp_endpoint: Option<String>,
    /// Name of this host in traces.
    pub service_name: String,
}

impl Config {
    /// The fields of complete settings.
    pub(crate) fn of(settings: &[Setting]) -> Self {
        let values = Values(settings);
        let mut ceilings = Limits::ceilings();
        for limit in Limit::ALL {
            let name = format!("ceilings.{}", limit.spec().name);
            ceilings.set(*limit, values.number(&name).unwrap_or(u64::MAX));
        }
        Self {
            data: values.needed_path("data"),
            serve: Serve::of(values),
            run: Run::of(values),
            ceilings,
            retention: Retention {
                max_age: values.duration("retention.max_age"),
                max_jobs: values.number("retention.max_jobs"),
                max_bytes: values.number("retention.max_bytes"),
                every: values.duration("retention.every").unwrap_or_default(),
            },
            queue: Queue {
                enabled: values.switch("queue.enabled"),
                dir: values.needed_path("queue.dir"),
            },
            container: Container {
                engine: values.text("container.engine"),
                mounts: values.list("container.mounts"),
                grants: values.list("container.grants"),
            },
            log: Log {
                format: match values.text("log.format").as_deref() {
                    Some("json") => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                filter: values.text("log.filter"),
            },
            telemetry: Telemetry {
                otlp_endpoint: values.text("telemetry.otlp_endpoint"),
                service_name: values.text("telemetry.service_name").unwrap_or_default(),
            },
        }
    }
}

impl Serve {
    fn of(values: Values<'_>) -> Self {
        let listen = values.list("serve.listen");
        let address = |text: &String| text.parse().expect("addresses were checked when read");
        Self {
            listen: listen.iter().map(address).collect(),
            tls_cert: values.path("serve.tls_cert"),
            tls_key: values.path("serve.tls_key"),
            allow_plain_text: values.switch("serve.allow_plain_text"),
            allowed_hosts: values.list("serve.allowed_hosts"),
            auth: match values.text("serve.auth").as_deref() {
                Some("required") => Auth::Required,
                _ => Auth::Auto,
            },
            max_connections: values.small("serve.max_connections"),
            max_body_bytes: values.number("serve.max_body").unwrap_or(u64::MAX),
            public_url: values.text("serve.public_url"),
        }
    }
}

impl Run {
    fn of(values: Values<'_>) -> Self {
        Self {
            cpus: values.small("run.cpus"),
            memory_bytes: values.number("run.memory").unwrap_or(u64::MAX),
            max_queued: values.small("run.max_queued"),
            drain: values.duration("run.drain").unwrap_or_default(),
            poison_after: values.small("run.poison_after"),
        }
    }
}

/// Complete settings, each of the kind that the table gives its key.
#[derive(Clone, Copy)]
struct Values<'a>(&'a [Setting]);

impl Values<'_> {
    fn value(&self, name: &str) -> &Value {
        let setting = self.0.iter().find(|setting| setting.key.name == name);
        &setting.expect("settings hold every key of the table").value
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Value::Count(number) | Value::Size(number) | Value::Duration(number) => Some(*number),
            _ => None,
        }
    }

    fn small(&self, name: &str) -> u32 {
        let number = self.number(name).and_then(|number| u32::try_from(number).ok());
        number.expect("the table bounds this key")
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    fn switch(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Switch(true))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::List(items) => items.clone(),
            _ => Vec::new(),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        }
    }

    fn needed_path(&self, name: &str) -> PathBuf {
        self.path(name).expect("the table gives this key a path")
    }
}
