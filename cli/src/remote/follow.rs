//! A job on a host, followed to its end: `hb submit --wait`, `hb logs`.
//!
//! Owns: that what the job prints comes out byte for byte, once, also where connections break and
//! hosts are started anew; and what Ctrl-C means while the job goes on.

use std::{
    io::{self, IsTerminal, Write},
    process,
};

use anyhow::Context;
use hb_api::{
    event::{EventBody, EventView},
    job::JobView,
};
use hb_client::{Client, Follow, Happened, Output, OutputPiece, Patience};
use hb_sandbox::Stream;
use hb_types::exit;
use serde_json::json;

use super::jobs;
use crate::{
    Invocation,
    args::LogsArgs,
    console::{Console, Ending},
    format,
    inspect::Filtered,
};

/// Follows a job, prints what it prints, and returns the exit code that it ended with.
pub fn to_end(
    invocation: &Invocation<'_>,
    client: &Client,
    job: &str,
    raw: bool,
    patience: Patience,
) -> anyhow::Result<u8> {
    detach_on_interrupt(job)?;
    let mut console = Console::new(invocation.cli, job, raw);
    let follow = Follow::Job { job: job.to_owned(), output: true, durable: false };
    for happened in client.events(follow, patience) {
        match happened? {
            Happened::Event(event) => tell_event(&mut console, &event),
            Happened::Output(piece) => {
                let stream = match piece.output {
                    Output::Stdout => Stream::Stdout,
                    Output::Stderr => Stream::Stderr,
                };
                hb_host::Observer::output(&mut console, stream, &piece.bytes);
            }
            Happened::Progress(progress) => console.tell_progress(progress.done, progress.total),
            Happened::Lagging => {}
            Happened::Lost { why } => {
                console.end_line();
                console.say(&format!("{why}; the job goes on, and so does this when it is back"));
            }
            Happened::Restored => console.say("connected again"),
        }
    }
    console.end_line();
    let job = client.job(job)?;
    let code = conclude(invocation, &job, &console)?;
    console.finish_output(&job.state)?;
    Ok(code)
}

/// Waits for a job to end and prints nothing of it; returns the exit code that it ended with.
pub fn wait(
    invocation: &Invocation<'_>,
    client: &Client,
    job: &str,
    patience: Patience,
) -> anyhow::Result<u8> {
    detach_on_interrupt(job)?;
    let console = Console::new(invocation.cli, job, false);
    let follow = Follow::Job { job: job.to_owned(), output: false, durable: true };
    for happened in client.events(follow, patience) {
        match happened? {
            Happened::Lost { why } => console.say(&format!("{why}; the job goes on")),
            Happened::Restored => console.say("connected again"),
            _ => {}
        }
    }
    conclude(invocation, &client.job(job)?, &console)
}

/// Ctrl-C ends the watching, not the job.
fn detach_on_interrupt(job: &str) -> anyhow::Result<()> {
    let job = job.to_owned();
    ctrlc::set_handler(move || {
        format::tell(&format!(
            "\nhb: the job goes on: `hb wait {job}` waits for it again, `hb logs -f {job}` prints \
             what it prints, `hb cancel {job}` ends it"
        ));
        process::exit(i32::from(exit::CANCELLED));
    })
    .context("cannot listen for Ctrl-C")
}

fn tell_event(console: &mut Console, event: &EventView) {
    match &event.what {
        EventBody::Checkpoint { sequence, step, .. } => {
            console.end_line();
            console.checkpoint(*sequence, *step, None);
        }
        EventBody::Started { attempt, from_sequence, .. } if *attempt > 1 => {
            let from = match from_sequence {
                0 => String::new(),
                sequence => format!(", from checkpoint {sequence}"),
            };
            console.end_line();
            console.say(&format!("attempt {attempt}{from}"));
        }
        EventBody::Interrupted { .. }
        | EventBody::Retried { .. }
        | EventBody::Held
        | EventBody::Released => {
            console.end_line();
            console.say(&jobs::describe(&event.what));
        }
        _ => {}
    }
}

fn conclude(invocation: &Invocation<'_>, job: &JobView, console: &Console) -> anyhow::Result<u8> {
    let conclusion = job.conclusion.as_ref().context("the host says that the job is not over")?;
    console.conclude(&Ending {
        job_id: &job.job_id,
        state: &job.state,
        outcome: &conclusion.outcome,
        message: (conclusion.outcome != "success").then_some(&*conclusion.message),
        backtrace: &conclusion.backtrace,
        seal: job.seal.clone(),
    });
    if invocation.cli.json {
        format::tell(&jobs::job_json(job).to_string());
    }
    Ok(conclusion.exit_code)
}

/// Prints what a job printed, or goes on printing until it is over.
pub fn logs(invocation: &Invocation<'_>, args: &LogsArgs) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, &args.job)?;
    let output = if args.stderr { Output::Stderr } else { Output::Stdout };
    if args.follow {
        return follow_logs(invocation, &client, &job.job_id, args, output);
    }
    if invocation.cli.json {
        format::print_json(&logs_json(&client, &job)?)?;
        return Ok(exit::OK);
    }
    let mut out = io::stdout().lock();
    let copied = if out.is_terminal() && !args.raw {
        client.copy_output(&job.job_id, output, &mut Filtered(&mut out))
    } else {
        client.copy_output(&job.job_id, output, &mut out)
    };
    match copied {
        Err(hb_client::ClientError::Sink(error)) => format::ignore_gone_reader(Err(error))?,
        other => _ = other?,
    }
    Ok(exit::OK)
}

fn logs_json(client: &Client, job: &JobView) -> anyhow::Result<serde_json::Value> {
    let read = |output| -> anyhow::Result<serde_json::Value> {
        let mut bytes = Vec::new();
        let len_bytes = client.copy_output(&job.job_id, output, &mut bytes)?;
        Ok(json!({"bytes": len_bytes, "text": String::from_utf8_lossy(&bytes)}))
    };
    Ok(json!({
        "job_id": job.job_id,
        "complete": job.conclusion.is_some(),
        "stdout": read(Output::Stdout)?,
        "stderr": read(Output::Stderr)?,
    }))
}

fn follow_logs(
    invocation: &Invocation<'_>,
    client: &Client,
    job: &str,
    args: &LogsArgs,
    wanted: Output,
) -> anyhow::Result<u8> {
    let console = Console::new(invocation.cli, job, args.raw);
    let follow = Follow::Job { job: job.to_owned(), output: true, durable: false };
    for happened in client.events(follow, super::following(&args.patience)) {
        let written = match happened? {
            Happened::Output(piece) if invocation.cli.json => print_piece(&piece),
            Happened::Output(piece) if piece.output == wanted => write_piece(&piece, args.raw),
            Happened::Lost { why } => {
                console.say(&why);
                Ok(())
            }
            Happened::Restored => {
                console.say("connected again");
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = written {
            format::ignore_gone_reader(Err(error))?;
            // Nobody reads any more.
            break;
        }
    }
    Ok(exit::OK)
}

fn write_piece(piece: &OutputPiece, raw: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() && !raw {
        Filtered(&mut out).write_all(&piece.bytes)?;
    } else {
        out.write_all(&piece.bytes)?;
    }
    out.flush()
}

/// One line of JSON for each piece, both streams.
fn print_piece(piece: &OutputPiece) -> io::Result<()> {
    let text = String::from_utf8_lossy(&piece.bytes);
    let line = json!({
        "stream": piece.output.name(), "offset": piece.offset, "bytes": piece.bytes.len(),
        "text": text, "durable": piece.durable,
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{}", format::escape_unsafe(&line.to_string()))?;
    out.flush()
}
