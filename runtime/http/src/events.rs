//! The events of one job, live and afterwards.
//!
//! Owns: the order in which events and output are sent, and how a client that comes back goes on.
//! Knows nothing of frames (`sse.rs`).
//!
//! A watcher has no queue: it reads from the ledger what follows its own position, as fast as its
//! client takes it. So a slow client costs nothing but its place, and nothing is lost for it: what
//! left memory before it was read comes when it is durable. A byte of output has the same number in
//! every attempt of a deterministic job, so a client that has it up to some number is sent what
//! follows, whatever crashed in between.
//!
//! Invariants: every event is sent once and in the order of the log; every byte of output is sent
//! once, in its order, and before the event that makes it durable.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{Response, sse::Event},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::stream;
use hb_api::{
    event::{EventView, OutputView},
    job::ProgressView,
};
use hb_edge::{
    Shutdown,
    extract::{Path, Query},
};
use hb_host::{Piece, Stream};
use hb_types::{Lsn, capture::Progress, event::JobNumber, history::JobEvent};
use serde::Deserialize;
use tokio::task::block_in_place;

use crate::{
    error::Failed,
    hub::Waiter,
    sse::{self, Position, last_position},
    state::App,
};

/// Bytes of output in one event.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Events that are looked up at once.
const EVENTS: usize = 256;
/// Time between two looks at a job that prints without a pause: many small writes share an event.
const BREATH: Duration = Duration::from_millis(20);

/// What is wanted of a stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    #[serde(default = "yes")]
    output: bool,
    #[serde(default)]
    durable: bool,
    last_event_id: Option<String>,
}

fn yes() -> bool {
    true
}

/// Follow a job.
///
/// Every transition, checkpoint and piece of output as server-sent events, until the job is over; the
/// last one is `end`. With `Last-Event-ID` the stream goes on where it broke off, without gap or
/// repetition, also across a new start of the host.
#[utoipa::path(get, path = "/v1/jobs/{job}/events", tag = "events", params(
        ("job" = String, Path, description = "a job id, or a job's number"),
        ("output" = Option<bool>, Query, description = "whether output is sent [default: true]"),
        ("durable" = Option<bool>, Query, description = "send no output that a crash could take back"),
        ("last_event_id" = Option<String>, Query, description = "for clients that cannot send Last-Event-ID"),
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that was received"),
    ), responses((status = 200, content_type = "text/event-stream", body = EventView),
        (status = 404, description = "job-not-found")))]
pub(crate) async fn follow(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    shutdown: axum::Extension<Shutdown>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let job = app.job(&name)?;
    let from = last_position(&headers, wanted.last_event_id.as_deref())?.unwrap_or_default();
    let output = from.output.unwrap_or_else(|| job.durable_output_at(from.lsn));
    let watcher = Watcher {
        waiter: app.hub.wait_for(job.number),
        app,
        job: job.number,
        job_id: job.job_id.into(),
        wanted,
        lsn: from.lsn,
        sent: [output.0, output.1],
        pending: VecDeque::new(),
        progress: None,
        lagging: [false; 2],
        over: false,
    };
    let shutdown = shutdown.0;
    let batches = stream::unfold((watcher, shutdown), |(mut watcher, shutdown)| async move {
        let batch = tokio::select! {
            batch = watcher.next() => batch?,
            // The client comes back to the next host where it is.
            () = shutdown.requested() => return None,
        };
        Some((batch, (watcher, shutdown)))
    });
    Ok(sse::answer(batches))
}

/// One client that follows one job.
struct Watcher {
    app: App,
    waiter: Waiter,
    job: JobNumber,
    job_id: Arc<str>,
    wanted: Wanted,
    /// Events up to this position were sent.
    lsn: Lsn,
    /// Bytes of standard output and standard error that were sent.
    sent: [u64; 2],
    /// Events that were looked up and not sent yet.
    pending: VecDeque<JobEvent>,
    progress: Option<Progress>,
    /// Whether the client was told that a part of this stream comes later.
    lagging: [bool; 2],
    over: bool,
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Watcher {
    /// The next events; `None` when all is said.
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if self.over {
                return None;
            }
            match block_in_place(|| self.look()) {
                Ok(batch) if batch.is_empty() => self.waiter.changed().await,
                Ok(batch) => {
                    if self.pending.is_empty() && !self.over {
                        tokio::time::sleep(BREATH).await;
                    }
                    return Some(batch);
                }
                Err(Failed(problem)) => {
                    let code = problem.code().name;
                    let detail = problem.detail().to_owned();
                    tracing::warn!(job = self.job, code, detail, "an event stream broke off");
                    self.over = true;
                    let data = serde_json::json!({"code": code, "detail": detail});
                    return Some(vec![sse::aside("error", &data.to_string())]);
                }
            }
        }
    }

    /// What can be sent now.
    fn look(&mut self) -> Result<Vec<Event>, Failed> {
        if self.pending.is_empty() {
            self.look_up_events()?;
        }
        let mut batch = Vec::new();
        if let Some(next) = self.pending.front() {
            let durable = next.what.durable_output().filter(|_| self.wanted.output);
            if let Some((stdout, stderr)) = durable
                && self.send_output_up_to([stdout, stderr], &mut batch)?
            {
                return Ok(batch);
            }
            let next = self.pending.pop_front().expect("there is a first one");
            self.lsn = next.lsn;
            let view = EventView::of(self.job, &self.job_id, &next);
            let data = serde_json::to_string(&view).expect("a view is plain data");
            batch.push(sse::event(view.what.name(), self.position(), &data));
            return Ok(batch);
        }
        if self.wanted.output {
            self.send_output_up_to([u64::MAX; 2], &mut batch)?;
        }
        self.send_progress(&mut batch);
        if batch.is_empty() && self.is_at_the_end()? {
            self.over = true;
            batch.push(sse::aside("end", "{}"));
        }
        Ok(batch)
    }

    fn position(&self) -> Position {
        let output = self.wanted.output.then_some((self.sent[0], self.sent[1]));
        Position { lsn: self.lsn, output }
    }

    fn look_up_events(&mut self) -> Result<(), Failed> {
        let durable = self.app.host().durable_lsn();
        let after = self.lsn;
        let here = self.app.host().with_ledger(|ledger| {
            let job = ledger.jobs.get(&self.job)?;
            // Most wakes bring output only.
            Some(if job.last > after { job.events_after(after, EVENTS) } else { Vec::new() })
        });
        let events = match here {
            Some(events) => events,
            None => match self.app.host().load(self.job)? {
                Some(job) => job.events_after(after, EVENTS),
                None => return Err(Failed(crate::state::no_such_job(&self.job_id))),
            },
        };
        self.pending.extend(events.into_iter().take_while(|event| event.lsn <= durable));
        Ok(())
    }

    /// Sends a piece of each stream, up to these numbers. Says whether anything was sent.
    fn send_output_up_to(
        &mut self,
        up_to: [u64; 2],
        batch: &mut Vec<Event>,
    ) -> Result<bool, Failed> {
        for (index, stream) in STREAMS.into_iter().enumerate() {
            let (from, to) = (self.sent[index], up_to[index]);
            if from >= to {
                continue;
            }
            let max = usize::try_from(to - from).unwrap_or(usize::MAX).min(OUTPUT_BYTES);
            let host = self.app.host();
            match host.read_output(self.job, stream, from, max, self.wanted.durable)? {
                Piece::Bytes { bytes, durable } => {
                    // A piece ends between characters, unless nothing else is left.
                    let len = whole_characters(&bytes, to != u64::MAX && bytes.len() < max);
                    let view = output_view(stream, from, &bytes[..len], durable);
                    self.sent[index] += len as u64;
                    self.lagging[index] = false;
                    let data = serde_json::to_string(&view).expect("a view is plain data");
                    batch.push(sse::event("output", self.position(), &data));
                }
                Piece::NotYet => self.tell_lagging(index, batch),
                Piece::End => {}
            }
        }
        Ok(!batch.is_empty())
    }

    /// Says once that bytes left memory before they could be sent, and come when they are durable.
    fn tell_lagging(&mut self, index: usize, batch: &mut Vec<Event>) {
        let stream = STREAMS[index];
        let kept_from = self.app.host().live().kept_from(self.job, stream);
        let Some(kept_from) = kept_from.filter(|kept_from| self.sent[index] < *kept_from) else {
            return;
        };
        if !std::mem::replace(&mut self.lagging[index], true) {
            let data = serde_json::json!({
                "stream": name_of(stream), "offset": self.sent[index], "kept_from": kept_from,
                "detail": "the rest comes with the job's next checkpoint or its end",
            });
            batch.push(sse::aside("lagging", &data.to_string()));
        }
    }

    fn send_progress(&mut self, batch: &mut Vec<Event>) {
        let progress = self.app.host().live().progress(self.job);
        if let Some(progress) = progress
            && self.progress.as_ref() != Some(&progress)
        {
            let view = ProgressView::of(&progress, false);
            let data = serde_json::to_string(&view).expect("a view is plain data");
            batch.push(sse::aside("progress", &data));
            self.progress = Some(progress);
        }
    }

    /// Whether the job is over, durably, and everything about it was sent.
    fn is_at_the_end(&self) -> Result<bool, Failed> {
        let state = self.app.host().with_ledger(|ledger| {
            ledger.by_number(self.job).map(|found| match found {
                hb_types::ledger::Found::Here(job) => (job.is_over(), job.last),
                hb_types::ledger::Found::Archived(_, job) => (true, job.last),
            })
        });
        let Some((over, last)) = state else {
            return Err(Failed(crate::state::no_such_job(&self.job_id)));
        };
        Ok(over && self.lsn >= last)
    }
}

fn name_of(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

fn output_view(stream: Stream, offset: u64, bytes: &[u8], durable: bool) -> OutputView {
    let text = std::str::from_utf8(bytes).ok();
    OutputView {
        stream: name_of(stream).to_owned(),
        offset,
        bytes: bytes.len() as u64,
        text: text.map(str::to_owned),
        base64: text.is_none().then(|| BASE64_STANDARD.encode(bytes)),
        durable,
    }
}

/// How many of these bytes end between two characters. All of them where they are no text anyway, or
/// `all` says that nothing follows for now.
fn whole_characters(bytes: &[u8], all: bool) -> usize {
    if all {
        return bytes.len();
    }
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_between_two_characters_where_it_can() {
        assert_eq!(whole_characters("aé".as_bytes(), false), 3);
        assert_eq!(whole_characters(&"aé".as_bytes()[..2], false), 1);
        assert_eq!(whole_characters(&"aé".as_bytes()[..2], true), 2);
        assert_eq!(whole_characters(&"é".as_bytes()[..1], false), 1, "no progress otherwise");
        assert_eq!(whole_characters(b"\xff\xfea", false), 3);
    }
}
