//! The host's side of a running container: its streams, its files, and what it asks.
//!
//! Owns: the job's files and streams as they are captured, and the answers to requests. Knows nothing
//! of engines: whether the container runs is found out elsewhere.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use hb_files::World;
use hb_session::{Control, Ending, HostFault, Saved, Session, Stream};
use hb_types::{
    capture::{Capture, ContentId, Counters},
    limits::{Limit, Limits},
};

use crate::{
    connection::Brought,
    end::{End, refused},
    frame::{Answer, PROTOCOL, Request, answer},
    job::{Job, Wanted},
    markers::Markers,
    mirror::Mirror,
    place::{Note, Place, STREAMS},
    watch,
};

/// Bytes that are taken over from a stream at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The shortest time between two looks at what a program has on the disk.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A look may take one part in this many of the time.
const LOOK_SHARE: u32 = 5;

/// A checkpoint that was given, until the program has gone on.
struct Given {
    sequence: u64,
    step: u64,
    state: Vec<u8>,
}

/// One attempt while its container runs.
pub(crate) struct Attempt<'a> {
    session: &'a mut dyn Session,
    control: &'a Control,
    limits: Limits,
    start_ns: u64,
    world: World,
    mirror: Mirror,
    markers: Markers,
    job: Job,
    place: &'a Place,
    streams: [File; 2],
    note: Note,
    given: Option<Given>,
    /// Whether the program was told that there is no checkpoint.
    asked: bool,
    saves: u64,
    next_look: Instant,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        session: &'a mut dyn Session,
        control: &'a Control,
        world: World,
        (limits, start_ns): (Limits, u64),
        place: &'a Place,
        note: Note,
    ) -> Result<Self, End> {
        let gone = End::io("what a job prints cannot be read");
        let streams =
            [place.stream(STREAMS[0]).map_err(&gone)?, place.stream(STREAMS[1]).map_err(&gone)?];
        Ok(Self {
            session,
            control,
            limits,
            start_ns,
            world,
            mirror: Mirror::default(),
            markers: Markers::default(),
            job: Job::default(),
            place,
            streams,
            note,
            given: None,
            asked: false,
            saves: 0,
            next_look: Instant::now(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a container over that an earlier host started. False where it stands on a checkpoint
    /// that the ledger does not have.
    pub(crate) fn take_over(&mut self) -> Result<bool, End> {
        if !self.note.bound {
            return Ok(true);
        }
        Ok(self.bind()?)
    }

    /// Puts everything back to where the newest checkpoint left it, but not the container's own
    /// directories. False where there is none.
    fn bind(&mut self) -> Result<bool, HostFault> {
        let Some(restored) = self.session.restore()? else { return Ok(false) };
        let next = restored.counters.next_content;
        self.world
            .restore(&restored.contents, &restored.names, next, &*restored.source)
            .map_err(|error| HostFault::new("a checkpoint could not be put back", error))?;
        let (sequence, step) = (restored.sequence, restored.step);
        self.job.go_on(sequence, step, restored.progress);
        self.given = Some(Given { sequence, step, state: restored.state });
        self.markers = Markers::default();
        Ok(true)
    }

    /// Fails when the job was cancelled, its time is over, or the attempt is to stop. What ends the
    /// job wins.
    pub(crate) fn check_control(&self) -> Result<(), End> {
        if self.control.cancel.load(Ordering::Relaxed) {
            return Err(End::Cancelled);
        }
        if self.control.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(End::limit(&self.limits, Limit::Deadline, 0));
        }
        if self.control.stop.load(Ordering::Relaxed) {
            return Err(End::Stopped);
        }
        Ok(())
    }

    /// Looks at what the program has on the disk, from time to time.
    pub(crate) fn check_disk(&mut self, pid: Option<i64>) -> Result<(), End> {
        let begun = Instant::now();
        if begun < self.next_look {
            return Ok(());
        }
        watch::check(self.place, &self.limits, pid)?;
        let pause = (begun.elapsed() * LOOK_SHARE).max(LOOK_EVERY);
        self.next_look = Instant::now() + pause;
        Ok(())
    }

    /// Takes over what was printed up to now.
    pub(crate) fn pump(&mut self) -> Result<(), End> {
        self.pump_one(0, ContentId::STDOUT, Stream::Stdout)?;
        self.pump_one(1, ContentId::STDERR, Stream::Stderr)
    }

    fn pump_one(&mut self, index: usize, id: ContentId, stream: Stream) -> Result<(), End> {
        let unreadable = End::io("what a job prints cannot be read");
        let until = self.streams[index].metadata().map_err(&unreadable)?.len();
        let mut at = self.world.content_len(id).unwrap_or(0);
        if until < at {
            let name = STREAMS[index];
            return Err(End::Contract(format!("it cut {name}, which was already taken over")));
        }
        let mut piece = vec![0; PIECE_BYTES];
        while at < until {
            let want = usize::try_from(until - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let len = self.streams[index].read_at(&mut piece[..want], at).map_err(&unreadable)?;
            if len == 0 {
                break;
            }
            let result = self.world.append_output(id, &piece[..len]);
            let after = self.world.content_len(id).unwrap_or(at);
            let kept = usize::try_from(after - at).unwrap_or(len).min(len);
            self.show(stream, &piece[..kept]);
            at = after;
            result.map_err(|why| refused(STREAMS[index], why))?;
        }
        Ok(())
    }

    fn show(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.session.output(stream, bytes);
        if stream == Stream::Stdout {
            let found = self.markers.feed(bytes);
            if !found.is_empty() {
                for line in found {
                    self.job.marker(line);
                }
                self.session.progress(&self.job.progress());
            }
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, brought: Brought) -> Result<Option<Vec<u8>>, End> {
        let (request, payload) = match brought {
            Brought::Nothing => return Ok(None),
            Brought::Request(request, payload) => (request, payload),
            Brought::TooLong(bytes) => {
                return Err(End::limit(&self.limits, Limit::CheckpointBytes, bytes));
            }
            Brought::Nonsense(why) => {
                return Err(End::Contract(format!("it sends what is no request: {why}")));
            }
        };
        let mut told = Answer::default();
        match request {
            Request::Hello { protocol: PROTOCOL } => told.protocol = Some(PROTOCOL),
            Request::Hello { protocol } => {
                return Err(End::Contract(format!(
                    "it speaks version {protocol} of the checkpoint protocol, this host {PROTOCOL}"
                )));
            }
            Request::Restore => return self.restore().map(Some),
            Request::Due { step } => {
                self.given = None;
                told.due = Some(self.job.asks_due(step)? && self.session.due(step));
            }
            Request::Save { step, sequence } => {
                self.given = None;
                told.sequence = Some(self.save(step, sequence, &payload)?);
            }
            Request::Report { done, total } => self.job.report(done, total),
            Request::Metric { name, value } => self.job.metric(&name, value),
            Request::Note { text } => self.job.note(&text),
            Request::Progress { done, total, metrics, notes } => {
                self.job.say_again(done, total, &metrics, &notes);
            }
        }
        if told == Answer::default() {
            self.session.progress(&self.job.progress());
        }
        Ok(Some(answer(&told, &[])))
    }

    fn restore(&mut self) -> Result<Vec<u8>, End> {
        if self.saves > 0 || (self.job.bound && self.given.is_none()) {
            let why = "it asks for its checkpoint after it went on: ask once, first";
            return Err(End::Contract(why.to_owned()));
        }
        if self.given.is_none() && !self.asked {
            self.asked = true;
            if self.bind()? {
                self.give_back().map_err(|error| match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::AlreadyExists => {
                        let why = "it changes its files while its checkpoint is put back";
                        End::Contract(why.to_owned())
                    }
                    _ => End::io("a checkpoint could not be put back")(error),
                })?;
            }
        }
        let Some(given) = &self.given else {
            return Ok(answer(&Answer { found: Some(false), ..Answer::default() }, &[]));
        };
        let told = Answer {
            found: Some(true),
            sequence: Some(given.sequence),
            step: Some(given.step),
            ..Answer::default()
        };
        Ok(answer(&told, &given.state))
    }

    /// Gives the container the files of its checkpoint, and lets its streams go on from there.
    fn give_back(&mut self) -> io::Result<()> {
        self.mirror.push(self.place, &self.world)?;
        for (file, id) in self.streams.iter().zip([ContentId::STDOUT, ContentId::STDERR]) {
            file.set_len(0)?;
            // What was printed before lies in the checkpoint; here is only a hole of its length, so
            // that a position in the file is the position in the stream.
            file.set_len(self.world.content_len(id).unwrap_or(0))?;
        }
        self.set_bound()
    }

    fn set_bound(&mut self) -> io::Result<()> {
        if !self.note.bound {
            self.note.bound = true;
            self.place.set_note(&self.note)?;
        }
        Ok(())
    }

    fn save(&mut self, step: u64, sequence: u64, state: &[u8]) -> Result<u64, End> {
        if let Wanted::There(sequence) = self.job.wants_save(step, sequence, &self.limits)? {
            return Ok(sequence);
        }
        self.pump()?;
        self.pull()?;
        let counters = self.counters();
        let progress = self.job.progress();
        let (contents, names) = self.world.capture();
        let capture =
            Capture { step, state, counters, contents, names, progress, source: &self.world };
        let saved = self.session.save(&capture)?;
        drop(capture);
        let Saved::Continue(sequence) = saved else { return Err(End::Stopped) };
        self.world.mark_clean();
        self.job.saved(sequence, step);
        self.saves += 1;
        self.set_bound().map_err(End::io("a note of a checkpoint could not be made"))?;
        Ok(sequence)
    }

    /// Takes over what the container's directories hold.
    pub(crate) fn pull(&mut self) -> Result<(), End> {
        self.mirror.pull(self.place, &mut self.world, self.start_ns)
    }

    /// A native program has no fuel and no virtual world: only files are counted.
    fn counters(&self) -> Counters {
        Counters { next_content: self.world.next_content(), ..Counters::default() }
    }

    /// Hands the final condition over.
    pub(crate) fn finish(&mut self, mut ending: Ending) -> Result<Ending, HostFault> {
        ending.counters = self.counters();
        let (contents, names) = self.world.capture();
        let capture = Capture {
            step: self.job.step(),
            state: &[],
            counters: ending.counters,
            contents,
            names,
            progress: self.job.progress(),
            source: &self.world,
        };
        self.session.finish(&ending, &capture)?;
        Ok(ending)
    }
}
