//! From options to a running log.
//!
//! Owns: which lines are written and which spans exported, and that what waits to be exported is
//! sent when the process ends.

use std::{io, time::Duration};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{self, format::JsonFields},
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use crate::{
    export::{self, ExportError},
    format::{Json, Text},
};

/// The longest that the end of a process waits for its last spans to be sent.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// How a process logs.
#[derive(Clone, Debug)]
pub struct Options {
    /// How lines look.
    pub format: Format,
    /// Which lines are written: `LEVEL` or `TARGET=LEVEL,…`.
    pub filter: String,
    /// Whether levels have colours.
    pub color: bool,
    /// Where traces go, if anywhere: the address of a collector, without its path.
    pub otlp_endpoint: Option<String>,
    /// Name of this process in traces.
    pub service_name: String,
    /// Its version.
    pub service_version: &'static str,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is to be logged makes no sense.
    #[error(
        "{filter:?} says nothing that can be logged: write LEVEL or TARGET=LEVEL, with error, warn, info, debug or trace"
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Traces cannot be sent.
    #[error("traces cannot be sent to {endpoint}")]
    Export {
        /// As it was given.
        endpoint: String,
        /// Why.
        source: ExportError,
    },
    /// There is one already.
    #[error("the log of this process was started before")]
    Twice(#[from] TryInitError),
}

/// A running log. What waits to be sent is sent when it is dropped.
#[must_use = "spans that wait to be sent are lost without it"]
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider {
            // The exporter has said what went wrong; nobody can do anything about it here.
            let _ = provider.shutdown_with_timeout(FLUSH_PATIENCE);
        }
    }
}

/// Whether a filter can be used.
pub fn check_filter(filter: &str) -> Result<(), StartError> {
    parse_filter(filter).map(|_| ())
}

fn parse_filter(filter: &str) -> Result<EnvFilter, StartError> {
    EnvFilter::try_new(filter)
        .map_err(|source| StartError::Filter { filter: filter.to_owned(), source })
}

/// Starts the log of this process, on standard error, and the export of its traces.
pub fn start(options: &Options) -> Result<Telemetry, StartError> {
    let (subscriber, telemetry) = subscriber(options, io::stderr)?;
    subscriber.try_init()?;
    Ok(telemetry)
}

/// What [`start`] makes the process's own.
pub(crate) fn subscriber<W>(
    options: &Options,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync, Telemetry), StartError>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = parse_filter(&options.filter)?;
    let lines = match options.format {
        Format::Text => fmt::layer()
            .with_writer(writer)
            .with_ansi(options.color)
            .event_format(Text)
            .with_filter(filter)
            .boxed(),
        Format::Json => fmt::layer()
            .with_writer(writer)
            .with_ansi(false)
            .fmt_fields(JsonFields::new())
            .event_format(Json)
            .with_filter(filter)
            .boxed(),
    };
    let provider = match &options.otlp_endpoint {
        None => None,
        Some(endpoint) => Some(
            export::provider(endpoint, options)
                .map_err(|source| StartError::Export { endpoint: endpoint.clone(), source })?,
        ),
    };
    let spans = provider.as_ref().map(|provider| {
        // Ours only, all of them (`hb`, `hb_host`, …): what is worth a span does not depend on
        // what is worth a line.
        let ours = Targets::new().with_target("hb", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("hackbrain"))
            .with_threads(false)
            .with_filter(ours)
    });
    Ok((Registry::default().with(lines).with(spans), Telemetry { provider }))
}
