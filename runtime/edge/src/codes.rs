//! Every code that an error answer may carry, in one table.
//!
//! Owns: name, status, title, cause and remedy of each code, and the page in `docs/errors/` that explains
//! it. A code's name and status are part of the interface: they are never reused for another meaning.
//! Knows nothing of: requests, answers, and which route uses which code.

use std::fmt;

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Its name, also the last segment of the problem's `type`.
    pub name: &'static str,
    /// The HTTP status that it is answered with.
    pub status: u16,
    /// What happened, for people; the same in every answer with this code.
    pub title: &'static str,
    /// When it arises.
    pub when: &'static str,
    /// What the client can do about it.
    pub mend: &'static str,
    /// The page that explains it, as Markdown.
    pub page: &'static str,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.status)
    }
}

impl Code {
    /// The code with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|code| code.name == name)
    }

    /// The code for an answer that has a status and nothing else.
    ///
    /// Statuses that this host has no code for become the general one of their class.
    pub const fn for_status(status: u16) -> &'static Self {
        match status {
            401 => &UNAUTHENTICATED,
            403 => &FORBIDDEN,
            404 => &NOT_FOUND,
            405 => &METHOD_NOT_ALLOWED,
            406 => &NOT_ACCEPTABLE,
            408 => &REQUEST_TIMEOUT,
            412 => &PRECONDITION_FAILED,
            413 => &TOO_LARGE,
            415 => &UNSUPPORTED_MEDIA_TYPE,
            416 => &RANGE_NOT_SATISFIABLE,
            429 => &TOO_MANY_REQUESTS,
            431 => &HEADER_TOO_LARGE,
            503 => &NOT_READY,
            507 => &DISK_FULL,
            500.. => &INTERNAL,
            _ => &BAD_REQUEST,
        }
    }
}

macro_rules! codes {
    ($($constant:ident $name:literal $status:literal $title:literal, $when:literal, $mend:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "` (", stringify!($status), "): ", $when, ".")]
            pub static $constant: Code = Code {
                name: $name,
                status: $status,
                title: $title,
                when: $when,
                mend: $mend,
                page: include_str!(concat!("../../../docs/errors/", $name, ".md")),
            };
        )*
        /// All of them, in the order of the table.
        pub static ALL: &[&Code] = &[$(&$constant),*];
    };
}

codes! {
    // What was asked for does not exist.
    NOT_FOUND "not-found" 404 "There is nothing here",
        "no route has this path", "check the path against the list of routes in /openapi.json";
    JOB_NOT_FOUND "job-not-found" 404 "There is no such job",
        "no job has this id, or its record was removed by retention", "list the jobs, and check the id and the host";
    BLOB_NOT_FOUND "blob-not-found" 404 "There is no such blob",
        "the store does not hold bytes with this digest", "upload the bytes, or check the digest";
    SCHEDULE_NOT_FOUND "schedule-not-found" 404 "There is no such schedule",
        "no schedule has this name", "list the schedules, and check the name and the host";
    CHECKPOINT_NOT_FOUND "checkpoint-not-found" 404 "The job has no such checkpoint",
        "the job saved no checkpoint of this number, none at all, or never asks for one", "look at the job's checkpoints, or submit it again";
    ARTIFACT_NOT_FOUND "artifact-not-found" 404 "The job has no such artifact",
        "the job left no file of this name below /out", "list the job's artifacts";

    // The request itself is wrong.
    METHOD_NOT_ALLOWED "method-not-allowed" 405 "This method is not understood here",
        "the path exists, but not with this method", "use one of the methods in the Allow header";
    BAD_REQUEST "bad-request" 400 "The request cannot be understood",
        "the request line, a header, a parameter or the body is malformed", "mend what the detail names, and send it again";
    INVALID_MANIFEST "invalid-manifest" 400 "The manifest is not valid",
        "the body is no manifest: a field is missing, unknown, or has a wrong type or value", "mend the field that the detail names";
    UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" 415 "The body has a type that is not read here",
        "Content-Type or Content-Encoding names a format that this route does not read", "send the format that the detail names";
    NOT_ACCEPTABLE "not-acceptable" 406 "None of the accepted types can be answered",
        "the Accept header admits no format that this route can write", "accept one of the types that the detail names";
    TOO_LARGE "too-large" 413 "The body is too large",
        "the body has more bytes than this route takes", "send less, or ask the operator to raise the bound";
    HEADER_TOO_LARGE "header-too-large" 431 "The request's head is too large",
        "request line and headers together exceed the bound on bytes or on number", "send fewer or shorter headers, or a shorter path";
    REQUEST_TIMEOUT "request-timeout" 408 "The request came too slowly",
        "the body arrived more slowly than the host waits for", "send it again over a faster connection";
    RANGE_NOT_SATISFIABLE "range-not-satisfiable" 416 "The range lies outside of what there is",
        "no byte of the requested range exists", "ask for a range below the length in the Content-Range header";
    PRECONDITION_FAILED "precondition-failed" 412 "The precondition does not hold",
        "the resource is no longer what If-Match, If-None-Match or a similar header expects", "read it again, and decide anew";

    // Who is asking, and from where.
    UNAUTHENTICATED "unauthenticated" 401 "A token is needed",
        "the request has no token, or one that is unknown, expired or revoked", "send `Authorization: Bearer TOKEN` with a token from `hb token new`";
    FORBIDDEN "forbidden" 403 "The token does not permit this",
        "the token is good, but its scope is too small", "use a token with the scope that the detail names";
    HOST_NOT_ALLOWED "host-not-allowed" 421 "The request is meant for another host",
        "the Host header names neither an address of this listener nor a configured name", "use the listener's address, or have the operator add the name to `allowed_hosts`";
    ORIGIN_NOT_ALLOWED "origin-not-allowed" 403 "The request comes from a foreign web page",
        "Origin or Sec-Fetch-Site says that a page of another origin sent the request", "use the host's own pages, or a client that is no web page";

    // The request contradicts what is recorded.
    JOB_ID_CONFLICT "job-id-conflict" 409 "The job id belongs to another job",
        "a job with this id exists and has another job hash", "choose another job_id, or send the manifest that the id was given to";
    ALREADY_ENDED "already-ended" 409 "The job has already ended",
        "the job's outcome is final, and what was asked for needs one that is still going on", "read the outcome; retry or fork the job to have it run again";
    ALREADY_SO "already-so" 409 "It is so already",
        "the job is already in the condition that was asked for, or another change came first", "look at the job, and decide anew";
    NOT_ENDED_YET "not-ended-yet" 409 "The job has not ended yet",
        "what was asked for exists only once the job's outcome is final", "follow the job's events until it ends, then ask again";
    IDEMPOTENCY_KEY_IN_USE "idempotency-key-in-use" 409 "A request with this key is still being answered",
        "an earlier request with the same Idempotency-Key has not been answered yet", "wait as Retry-After says, and send the same request again";
    IDEMPOTENCY_KEY_REUSED "idempotency-key-reused" 422 "The key belongs to another request",
        "the Idempotency-Key was used before, for a request with other content", "use a new key for each new request";
    UPLOAD_OFFSET_MISMATCH "upload-offset-mismatch" 409 "The upload stands at another offset",
        "a part of a resumable upload does not begin where the host's copy ends", "ask for the upload's offset, and go on from there";

    // The request is understood, and cannot be carried out.
    BLOB_MISSING "blob-missing" 422 "Blobs that the manifest names are missing",
        "the manifest names digests whose bytes the store does not hold", "upload the blobs listed in `missing`, and send the manifest again";
    COMPONENT_REFUSED "component-refused" 422 "The component cannot be run here",
        "the bytes are no component, exceed a bound of the scan, or import what this host does not offer", "mend what the detail names, and build the component again";
    LIMIT_ABOVE_CEILING "limit-above-ceiling" 422 "A limit is above the operator's ceiling",
        "the manifest asks for more of a resource than this host gives to any job", "ask for less, or have the operator raise the ceiling";
    DIGEST_MISMATCH "digest-mismatch" 422 "The bytes have another digest",
        "the uploaded bytes do not hash to the digest that they were announced with", "send the right bytes, or their right digest";

    // Not now, or not here.
    TOO_MANY_REQUESTS "too-many-requests" 429 "Too many requests",
        "this client has too many changes in flight, or sent too many wrong tokens", "wait as Retry-After says";
    QUEUE_FULL "queue-full" 429 "The queue is full",
        "as many jobs are waiting as the host keeps", "wait as Retry-After says, and submit again";
    OVERLOADED "overloaded" 503 "The host has too much to answer",
        "as many requests are in flight as the host serves at once", "wait as Retry-After says";
    PAUSED "paused" 503 "The host is paused",
        "the operator paused the host: it takes no new jobs", "wait, or ask the operator to resume it";
    DRAINING "draining" 503 "The host is shutting down",
        "the host finishes what it has and takes nothing new", "send the request again once the host is back";
    NOT_READY "not-ready" 503 "The host is not ready",
        "something that the request needs is not there yet, or not any more", "look at /readyz, and wait as Retry-After says";
    OUTCOME_UNKNOWN "outcome-unknown" 503 "Whether it was done is not known",
        "the ledger's log failed while the request was being written down", "wait as Retry-After says, and look whether it was done before asking again; a submission with a name can be repeated at once";
    DISK_FULL "disk-full" 507 "The disk is full",
        "the host keeps its last free bytes for jobs that it has accepted", "have the operator free or add disk space";
    NEEDS_CONTAINER_EXECUTOR "needs-container-executor" 501 "This host runs no containers",
        "the manifest names a container image, and this host has no executor for them", "submit a WebAssembly component, or use a host with the container executor";
    INTERNAL "internal" 500 "Something went wrong inside the host",
        "the host met a fault of its own", "give the operator the id in `instance`: the log says more under it";
}
