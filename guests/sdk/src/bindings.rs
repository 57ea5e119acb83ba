//! The imports of `wit/job.wit` as Rust functions, generated.
//!
//! `unsafe` is allowed here and only here, because what is generated hands pointers over the
//! boundary between guest and host. Nothing is written by hand below.
#![allow(unsafe_code)]
#![allow(missing_docs, unused_qualifications, clippy::pedantic)]

wit_bindgen::generate!({ path: "../../wit", world: "job" });
