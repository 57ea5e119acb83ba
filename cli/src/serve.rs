//! `hb serve`: a host that owns a ledger and answers over HTTP.
//!
//! Owns: what is opened in which order, what signals mean, and what is said to the service manager.
//! Knows nothing of how jobs are run or requests answered.
//!
//! Order: the ledger first, whose lock says that there is no other host; then whoever listens to it;
//! then what runs jobs; then the sockets. `host.json` is written last: whoever finds it finds a host
//! that answers. The end goes the other way round.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use hb_chaos::Ambush;
use hb_config::{Auth, Config, Flag, host_file::HostFile};
use hb_edge::{
    Bounds, Edge, EdgeConfig, Shutdown,
    listen::{Address, TlsFiles},
    tokens::{self, TokenPolicy},
};
use hb_host::{AdoptTrace, Capacity, DispatchOptions, Dispatcher, Host, RetentionPolicy};
use hb_http::{Options, SelfTest, Server};
use hb_queue_folder::{HostDesk, QueueFolder};
use hb_telemetry::TraceContext;
use hb_types::{exit, units::show_time};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Invocation, chaos, format, token};

/// Flags that stand for keys of the configuration.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Where to listen; repeatable [default: 127.0.0.1:4005]. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<String>,
    /// Certificate, as PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<String>,
    /// Its secret key, as PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<String>,
    /// Speak plain HTTP also where other machines can reach it: something before it encrypts.
    #[arg(long)]
    pub allow_plain_text: bool,
    /// Further names under which clients may ask for this host; repeatable.
    #[arg(long, value_name = "NAME")]
    pub allowed_host: Vec<String>,
    /// Processors that jobs share.
    #[arg(long, value_name = "COUNT")]
    pub cpus: Option<String>,
    /// Memory that jobs share.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Jobs that may wait.
    #[arg(long, value_name = "COUNT")]
    pub max_queued: Option<String>,
    /// How long jobs may take to come to a checkpoint when the host is asked to stop.
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    /// Take manifests from this folder.
    #[arg(long, value_name = "DIR")]
    pub queue: Option<String>,
    /// What this host is to do to itself, from `hb chaos`.
    #[arg(long, hide = true, value_name = "JSON", value_parser = chaos::parse_ambush)]
    pub ambush: Option<Ambush>,
}

impl ServeArgs {
    /// What these flags say that could stand in a file too.
    pub fn flags(&self) -> Vec<Flag> {
        let list = |items: &[String]| (!items.is_empty()).then(|| items.join(","));
        let yes = |is: bool| is.then(|| "true".to_owned());
        let all = [
            ("serve.listen", "--listen", list(&self.listen)),
            ("serve.tls_cert", "--tls-cert", self.tls_cert.clone()),
            ("serve.tls_key", "--tls-key", self.tls_key.clone()),
            ("serve.allow_plain_text", "--allow-plain-text", yes(self.allow_plain_text)),
            ("serve.allowed_hosts", "--allowed-host", list(&self.allowed_host)),
            ("run.cpus", "--cpus", self.cpus.clone()),
            ("run.memory", "--memory", self.memory.clone()),
            ("run.max_queued", "--max-queued", self.max_queued.clone()),
            ("run.drain", "--drain", self.drain.clone()),
            ("queue.dir", "--queue", self.queue.clone()),
            ("queue.enabled", "--queue", yes(self.queue.is_some())),
        ];
        all.into_iter()
            .filter_map(|(key, flag, value)| {
                Some(Flag { key, flag: flag.to_owned(), value: value?.into() })
            })
            .collect()
    }
}

/// Threads that run jobs, for each processor that jobs share: one that waits for the disk takes
/// nothing of the machine.
const WORKERS_PER_CPU: usize = 8;
const WORKERS_MAX: usize = 128;
/// The least number of threads that answer: one may be waiting for the disk.
const ANSWERING: usize = 4;
/// Bytes of a segment of the log: a host writes much.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Serves until a signal says to stop, and returns the exit code.
pub fn serve(invocation: &Invocation<'_>, args: &ServeArgs) -> anyhow::Result<u8> {
    let started = Instant::now();
    raise_open_files();
    let config = &invocation.config;
    let mut options = invocation.host_options()?;
    options.log.segment_bytes = SEGMENT_BYTES;
    if let Some(ambush) = &args.ambush {
        chaos::lay(ambush, &config.data, &mut options);
    }
    let host = Arc::new(Host::open(&config.data, options)?);
    let hub = Server::listen(&host);
    let machine = Capacity {
        cpu_milli: u64::from(config.run.cpus) * 1000,
        memory_bytes: config.run.memory_bytes,
    };
    let workers = (config.run.cpus as usize).saturating_mul(WORKERS_PER_CPU).min(WORKERS_MAX);
    let max_waiting = config.run.max_queued as usize;
    let adopt_trace: AdoptTrace = Arc::new(|span, traceparent| {
        if let Some(context) = TraceContext::read(traceparent, None) {
            context.adopt(span);
        }
    });
    let adopt_trace = config.telemetry.otlp_endpoint.is_some().then_some(adopt_trace);
    let kept = &config.retention;
    let age_ms = kept.max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let retention =
        RetentionPolicy { max_age_ms: age_ms, max_jobs: kept.max_jobs, max_bytes: kept.max_bytes };
    let options = DispatchOptions {
        machine,
        workers,
        max_waiting,
        retention,
        retention_every: kept.every,
        adopt_trace,
    };
    let dispatcher = Dispatcher::start(Arc::clone(&host), options);
    let dispatcher = Arc::new(dispatcher.context("cannot start the threads that run jobs")?);
    let self_test = self_test(&host)?;
    let options = Options {
        read_model: config.data.join("read-model.sqlite"),
        uploads: config.data.join("uploads"),
        blob_bytes: config.serve.max_body_bytes,
        started,
        self_test,
    };
    let server = Server::new(Arc::clone(&dispatcher), hub, options)?;
    // Its thread ends before the host does.
    let _queue = queue_folder(config, &dispatcher)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(1, usize::from).max(ANSWERING))
        .enable_all()
        .build()
        .context("cannot start the threads that answer requests")?;
    let code = runtime.block_on(answer(invocation, &server, &dispatcher))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    server.close();
    Ok(code)
}

/// A connection is a file, and so is what a job reads: the usual soft limit is for programs that have
/// few of either.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// Takes manifests from a folder, where that is wanted.
fn queue_folder(
    config: &Config,
    dispatcher: &Arc<Dispatcher>,
) -> anyhow::Result<Option<QueueFolder>> {
    if !config.queue.enabled {
        return Ok(None);
    }
    let desk = Box::new(HostDesk(Arc::clone(dispatcher)));
    Ok(Some(QueueFolder::watch(&config.queue.dir, desk)?))
}

async fn answer(
    invocation: &Invocation<'_>,
    server: &Server,
    dispatcher: &Arc<Dispatcher>,
) -> anyhow::Result<u8> {
    let config = &invocation.config;
    let edge = Server::dress(Edge::new(edge_config(config)?)?);
    let bound = edge.bind()?;
    let scheme = if bound.is_tls() { "https" } else { "http" };
    let url = |address: String| match address.strip_prefix("unix:") {
        Some(_) => address,
        None => format!("{scheme}://{address}"),
    };
    let urls: Vec<String> = bound.addresses().into_iter().map(url).collect();
    let mut signals = Signals::listen()?;
    let found = HostFile {
        pid: std::process::id(),
        urls: urls.clone(),
        started: show_time(dispatcher.host().started_ns()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    found.write(&config.data)?;
    for url in &urls {
        if !invocation.cli.quiet {
            format::tell(&format!("hb: listening on {url}"));
        }
    }
    let shutdown = Shutdown::new();
    let watchdog = tell_manager();
    let until = async {
        let asked = signals.wait_for(dispatcher).await;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let code = drain(config, dispatcher, asked, &mut signals).await;
        shutdown.request();
        code
    };
    let (code, ended) = tokio::join!(until, server.serve(bound, shutdown.clone()));
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    if ended.cut > 0 {
        tracing::warn!(connections = ended.cut, "connections were cut");
    }
    HostFile::remove(&config.data)?;
    Ok(code)
}

/// Why the host stops.
enum Asked {
    /// A signal.
    Signal,
    /// The log failed: a new start has to find out how far it goes.
    Failure(String),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn wait_for(&mut self, dispatcher: &Dispatcher) -> Asked {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                () = self.next() => return Asked::Signal,
                _ = tick.tick() => {
                    if let Some(failure) = dispatcher.failure() {
                        return Asked::Failure(failure);
                    }
                }
            }
        }
    }
}

/// Lets jobs come to a checkpoint. A second signal stops at once: that is a crash, and crashing is
/// safe.
async fn drain(
    config: &Config,
    dispatcher: &Arc<Dispatcher>,
    asked: Asked,
    signals: &mut Signals,
) -> u8 {
    if let Asked::Failure(failure) = asked {
        format::tell(&format!("hb: the ledger takes nothing any more ({failure}); start hb again"));
        return exit::HOST_FAILED;
    }
    let grace = config.run.drain;
    format::tell(&format!(
        "hb: stopping; running jobs have {} to come to a checkpoint; once more stops at once",
        humantime::format_duration(grace)
    ));
    let draining = Arc::clone(dispatcher);
    let drained = tokio::task::spawn_blocking(move || draining.drain(grace));
    tokio::select! {
        _ = drained => exit::OK,
        () = signals.next() => {
            format::tell("hb: stopped at once; what was saved is kept, the rest is done again");
            std::process::exit(i32::from(exit::OK));
        }
    }
}

/// Tells the service manager that the host is ready, and from time to time that it lives.
fn tell_manager() -> Option<tokio::task::JoinHandle<()>> {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager was told");
    }
    let every = sd_notify::watchdog_enabled()? / 2;
    Some(tokio::spawn(async move {
        let mut tick = tokio::time::interval(every);
        loop {
            tick.tick().await;
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }))
}

/// Finds out, beside everything else, whether a component can be compiled here.
fn self_test(host: &Arc<Host>) -> anyhow::Result<SelfTest> {
    let (test, host) = (SelfTest::default(), Arc::clone(host));
    let told = test.clone();
    thread::Builder::new()
        .name("self-test".to_owned())
        .spawn(move || told.tell(host.self_test().map_err(|error| error.to_string())))
        .context("cannot start a thread")?;
    Ok(test)
}

fn edge_config(config: &Config) -> anyhow::Result<EdgeConfig> {
    let serve = &config.serve;
    let directory = token::directory(config);
    let reachable = serve.listen.iter().any(|address| !address.ip().is_loopback());
    let required =
        serve.auth == Auth::Required || reachable || !tokens::list(&directory)?.is_empty();
    let files = serve.tls_cert.clone().zip(serve.tls_key.clone());
    let names = serve.allowed_hosts.iter().chain(&serve.public_url).map(|name| {
        // A public URL is allowed by its name.
        let name = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
        name.trim_end_matches('/').parse().with_context(|| format!("serve.allowed_hosts: {name}"))
    });
    // A service manager that hands sockets over knows best where to listen.
    let inherited = std::env::var_os("LISTEN_FDS").is_some();
    let listen = if inherited {
        vec![Address::Inherited]
    } else {
        serve.listen.iter().copied().map(Address::Tcp).collect()
    };
    Ok(EdgeConfig {
        listen,
        tls: files.map(|(certificate, key)| TlsFiles { certificate, key }),
        allow_plain_text: serve.allow_plain_text,
        allowed_hosts: names.collect::<anyhow::Result<_>>()?,
        tokens: if required { TokenPolicy::Required } else { TokenPolicy::Open },
        token_dir: Some(directory),
        bounds: Bounds { connections: serve.max_connections as usize, ..Bounds::default() },
        ..EdgeConfig::default()
    })
}
