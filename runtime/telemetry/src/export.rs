//! Sends spans to a collector by OTLP over HTTP.
//!
//! Owns: bounds of what waits, and that a collector that is away is told once and not with every
//! batch. A collector can never slow down or end what is being traced.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};

use crate::{
    http::{Cause, Client},
    start::Options,
};

/// Where a collector takes traces (OTLP specification 1.x, OTLP/HTTP request).
const TRACES_PATH: &str = "/v1/traces";
/// Spans that wait; more are dropped.
const QUEUE_MAX: usize = 4096;
/// Spans in one request.
const BATCH_MAX: usize = 512;
/// Time between two requests while few spans come.
const EVERY: Duration = Duration::from_secs(2);

/// Why an exporter could not be made.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExportError(#[from] opentelemetry_otlp::ExporterBuildError);

/// What turns spans into requests.
pub(crate) fn provider(
    endpoint: &str,
    options: &Options,
) -> Result<SdkTracerProvider, ExportError> {
    let cause = Cause::default();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new(endpoint, Arc::clone(&cause)))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/')))
        .build()?;
    let failing = AtomicBool::new(false);
    let exporter = Exporter { inner: exporter, endpoint: endpoint.into(), failing, cause };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(EVERY)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder()
        .with_service_name(options.service_name.clone())
        .with_attribute(KeyValue::new("service.version", options.service_version))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build())
}

/// The library's exporter, which says in our log when the collector goes away and comes back.
#[derive(Debug)]
struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    endpoint: Arc<str>,
    failing: AtomicBool,
    cause: Cause,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.inner.export(batch).await;
        let endpoint = &*self.endpoint;
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                let known = self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let cause = known.unwrap_or_else(|| error.to_string());
                tracing::warn!(
                    endpoint,
                    cause,
                    spans = count,
                    "traces cannot be sent and are dropped until the collector answers: \
                     check telemetry.otlp_endpoint"
                );
            }
            Ok(()) if failed_before => tracing::warn!(endpoint, "traces are sent again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
