//! Many attempts, one at a time.
//!
//! Owns: the threads that attempts run on, and the hand-over by which exactly one of them, or the
//! world, runs at any moment. An attempt gives way only where it says so ([`give_way`]), so the same
//! choices give the same history. Knows nothing of what an attempt does.

use std::{
    cell::RefCell,
    panic::{resume_unwind, set_hook, take_hook},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use hb_types::event::JobNumber;

/// Bytes of an actor's stack.
const STACK_BYTES: usize = 1024 * 1024;

struct Here {
    job: JobNumber,
    panicked: Arc<AtomicBool>,
    gave_way: Sender<()>,
    go: Receiver<()>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Notes every panic of an attempt, also of one that the host catches.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            HERE.with(|here| {
                if let Ok(Some(here)) = here.try_borrow().as_deref() {
                    here.panicked.store(true, Ordering::Relaxed);
                }
            });
            before(panic);
        }));
    });
}

/// Lets the world go on until it resumes this attempt. Nothing happens outside of an actor.
pub fn give_way() {
    HERE.with_borrow(|here| {
        if let Some(here) = here {
            here.gave_way.send(()).expect("the world outlives its actors");
            here.go.recv().expect("the world outlives its actors");
        }
    });
}

/// The job of the attempt that runs on this thread.
pub fn current_job() -> Option<JobNumber> {
    HERE.with_borrow(|here| here.as_ref().map(|here| here.job))
}

/// An attempt that is on its way.
pub struct Actor {
    /// Its job.
    pub job: JobNumber,
    go: Sender<()>,
    gave_way: Receiver<()>,
    panicked: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Actor {
    /// An attempt that has not begun.
    pub fn new(job: JobNumber, body: impl FnOnce() + Send + 'static) -> Self {
        note_panics();
        let (go, may_go) = channel();
        let (gave_way, was_given) = channel();
        let panicked = Arc::<AtomicBool>::default();
        let noted = Arc::clone(&panicked);
        let run = move || {
            if may_go.recv().is_err() {
                return;
            }
            HERE.set(Some(Here { job, panicked: noted, gave_way, go: may_go }));
            body();
            // The sender goes with it, which tells the world that the attempt is over.
            HERE.set(None);
        };
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder.spawn(run).expect("a thread for an attempt");
        Self { job, go, gave_way: was_given, panicked, thread: Some(thread) }
    }

    /// Lets it go on until it gives way; says whether it is still on its way. Its panics become
    /// those of the caller.
    pub fn resume(&mut self) -> bool {
        let goes_on = self.go.send(()).is_ok() && self.gave_way.recv().is_ok();
        if !goes_on && let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
        assert!(!self.panicked.load(Ordering::Relaxed), "an attempt at job {} panicked", self.job);
        goes_on
    }
}
