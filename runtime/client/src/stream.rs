//! What happens on a host, as it happens.
//!
//! Owns: the connection behind the stream, which comes back by itself where it left off, also
//! after a new start of the host. The format is `sse.rs`.
//!
//! Invariants: each byte that a job prints is given once and in order, and each event once; a
//! stream ends after the host said that it is at its end, or with an error, and never in between.

use std::{collections::VecDeque, io, io::Read, thread, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hb_api::{
    event::{EventView, OutputView},
    job::ProgressView,
};
use serde::de::DeserializeOwned;
use ureq::{
    Body, BodyReader,
    http::{HeaderName, Response, header},
};

use crate::{
    Client, ClientError, Frame, Output, Parser, Patience,
    exchange::{Call, Tried, header_text},
    jobs::job_path,
    retry::Tries,
    url::Query,
};

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// One job to its end.
    Job {
        /// Its id or number.
        job: String,
        /// Whether what it prints is wanted too.
        output: bool,
        /// Whether only what is durable is wanted.
        durable: bool,
    },
    /// All jobs, without an end, from now on.
    All,
}

impl Follow {
    fn path(&self) -> String {
        let Self::Job { job, output, durable } = self else { return "/v1/events".to_owned() };
        let mut query = Query::default();
        if !output {
            query.add("output", "false");
        }
        if *durable {
            query.add("durable", "true");
        }
        query.behind(&job_path(job, "/events"))
    }
}

/// Bytes that a job printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPiece {
    /// Where to.
    pub output: Output,
    /// Number of the first byte, counted from the beginning of the job.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether they are durable.
    pub durable: bool,
}

/// What a stream gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// Something happened to a job.
    Event(Box<EventView>),
    /// A job printed something.
    Output(OutputPiece),
    /// A job said how far it is.
    Progress(ProgressView),
    /// The host sends faster than is read, and gives only what is newest for a while.
    Lagging,
    /// The connection is lost and being restored.
    Lost {
        /// Why.
        why: String,
    },
    /// It is restored.
    Restored,
}

/// A stream of what happens.
#[derive(Debug)]
pub struct EventStream<'c> {
    client: &'c Client,
    follow: Follow,
    tries: Tries,
    pause: Option<Duration>,
    connection: Option<Connection>,
    lost: bool,
    ended: bool,
    /// Why it ended, until that is told.
    failed: Option<ClientError>,
    ready: VecDeque<Happened>,
    /// What the host knows the place by that was reached.
    last_id: String,
    /// Position of the newest event.
    last_event: u64,
    /// Bytes of standard output and standard error that were given.
    given: [u64; 2],
}

struct Connection {
    reader: BodyReader<'static>,
    parser: Parser,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest that a host can ask to be left alone.
const ASKED_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Why a stream cannot go on as it is.
enum Trouble {
    /// Another connection may do.
    Connection(ClientError),
    /// Nothing will.
    Content(ClientError),
}

impl Client {
    /// Follows what happens; a host that is away is waited for as long as `patience` says.
    pub fn events(&self, follow: Follow, patience: Patience) -> EventStream<'_> {
        EventStream {
            client: self,
            follow,
            tries: Tries::new(patience),
            pause: None,
            connection: None,
            lost: false,
            ended: false,
            failed: None,
            ready: VecDeque::new(),
            last_id: String::new(),
            last_event: 0,
            given: [0; 2],
        }
    }
}

impl Iterator for EventStream<'_> {
    type Item = Result<Happened, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(happened) = self.ready.pop_front() {
                return Some(Ok(happened));
            }
            if self.ended {
                return self.failed.take().map(Err);
            }
            let step = if self.connection.is_some() { self.read() } else { self.connect() };
            if let Err(error) = step {
                // What was complete before the trouble comes first.
                self.failed = Some(error);
                self.ended = true;
                self.connection = None;
            }
        }
    }
}

impl EventStream<'_> {
    fn connect(&mut self) -> Result<(), ClientError> {
        if let Some(pause) = self.pause.take() {
            thread::sleep(pause);
        }
        let mut call = Call::get(self.follow.path()).header(header::ACCEPT, "text/event-stream");
        if !self.last_id.is_empty() {
            call = call.header(HeaderName::from_static("last-event-id"), &self.last_id);
        }
        match self.client.try_once(&call, &[]) {
            Tried::Answered(response) => self.begin(response),
            Tried::Passing { error, retry_after } => self.lose(error, retry_after),
            Tried::Final(error) => Err(error),
        }
    }

    fn begin(&mut self, response: Response<Body>) -> Result<(), ClientError> {
        let kind = header_text(&response, header::CONTENT_TYPE).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let kind = hb_types::text::printable(&kind, 100);
            return Err(self.garbage(format!("events were expected, {kind:?} came")));
        }
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let (parser, buffer) = (Parser::new(), vec![0; READ_BYTES]);
        self.connection = Some(Connection { reader, parser, buffer });
        if std::mem::take(&mut self.lost) {
            self.ready.push_back(Happened::Restored);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut frames = Vec::new();
        let read = match connection.reader.read(&mut connection.buffer) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            other => other,
        };
        let parsed = read.map(|count| {
            self.tries.succeeded();
            connection.parser.push(&connection.buffer[..count], &mut frames)
        });
        let asked = connection.parser.retry_ms().map(Duration::from_millis);
        for frame in frames {
            match self.take(frame) {
                Ok(()) => {}
                Err(Trouble::Connection(error)) => return self.lose(error, asked),
                Err(Trouble::Content(error)) => return Err(error),
            }
            if self.ended {
                self.connection = None;
                return Ok(());
            }
        }
        match parsed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.garbage(error.to_string())),
            Err(error) => {
                let source = Box::new(ureq::Error::Io(error));
                let server = self.client.server();
                self.lose(ClientError::Interrupted { server, source }, asked)
            }
        }
    }

    /// Lets go of the connection and decides how long to wait for the next one.
    fn lose(&mut self, error: ClientError, asked: Option<Duration>) -> Result<(), ClientError> {
        self.connection = None;
        let asked = asked.map(|asked| asked.min(ASKED_PAUSE_MAX));
        let Some(pause) = self.tries.next_pause(asked) else {
            let server = self.client.server();
            let (patience_s, source) = (self.tries.patience_s(), Box::new(error));
            return Err(ClientError::GaveUp { server, patience_s, source });
        };
        self.pause = Some(pause);
        if !std::mem::replace(&mut self.lost, true) {
            let why = causes(&error);
            self.ready.push_back(Happened::Lost { why });
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), Trouble> {
        match frame.event.as_str() {
            "end" => self.ended = true,
            "lagging" => self.ready.push_back(Happened::Lagging),
            "progress" => {
                let progress: ProgressView = self.decode(&frame)?;
                self.ready.push_back(Happened::Progress(progress));
            }
            "output" => {
                let output: OutputView = self.decode(&frame)?;
                self.take_output(output)?;
            }
            name if EVENTS.contains(&name) => {
                let event: EventView = self.decode(&frame)?;
                // Between all jobs positions ascend too, since all are in one log.
                if event.id > self.last_event {
                    self.last_event = event.id;
                    self.ready.push_back(Happened::Event(Box::new(event)));
                }
            }
            // A later host may know more than this client.
            _ => {}
        }
        if !frame.id.is_empty() {
            self.last_id = frame.id;
        }
        Ok(())
    }

    fn take_output(&mut self, view: OutputView) -> Result<(), Trouble> {
        let (output, index) = match view.stream.as_str() {
            "stdout" => (Output::Stdout, 0),
            "stderr" => (Output::Stderr, 1),
            _ => return Ok(()),
        };
        let mut bytes = match (view.text, view.base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(text)) => BASE64
                .decode(text)
                .map_err(|error| Trouble::Content(self.garbage(error.to_string())))?,
            (None, None) => Vec::new(),
        };
        let given = self.given[index];
        let Some(known) = given.checked_sub(view.offset) else {
            // What is missing comes again with the next connection.
            let why = format!("byte {given} of {} was expected, {} came", view.stream, view.offset);
            return Err(Trouble::Connection(self.garbage(why)));
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        bytes.drain(..known);
        if !bytes.is_empty() {
            self.given[index] += bytes.len() as u64;
            let durable = view.durable;
            self.ready.push_back(Happened::Output(OutputPiece {
                output,
                offset: given,
                bytes,
                durable,
            }));
        }
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, frame: &Frame) -> Result<T, Trouble> {
        serde_json::from_str(&frame.data)
            .map_err(|error| Trouble::Content(self.garbage(format!("{}: {error}", frame.event))))
    }

    fn garbage(&self, why: impl Into<String>) -> ClientError {
        let why = hb_types::text::printable(&why.into(), 1000);
        ClientError::Garbage { server: self.client.server(), why }
    }
}

/// Names of the events that carry an [`EventView`].
const EVENTS: [&str; 10] = [
    "received",
    "scheduled",
    "started",
    "checkpoint",
    "interrupted",
    "retried",
    "held",
    "released",
    "ended",
    "sealed",
];

/// An error with its causes on one line.
fn causes(error: &ClientError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let mut text = error.to_string();
    for cause in causes {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    hb_types::text::printable(&text, 1000)
}
