//! What happens, told as it happens: `hb trace`, `hb events`, `hb wait`.

use std::io::{self, Write};

use hb_api::event::EventView;
use hb_client::{Client, Follow, Happened, Patience};
use hb_types::{exit, text::printable, units::parse_time_ns};

use super::{
    args::{EventsArgs, WaitArgs},
    follow, jobs,
};
use crate::{Invocation, args::TraceArgs, format};

/// Events that a host gives at once.
const PAGE: usize = 1000;

/// Tells a job's life, up to now or to its end.
pub fn trace(invocation: &Invocation<'_>, args: &TraceArgs) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, &args.job)?.job_id;
    if args.follow {
        let follow = Follow::Job { job, output: false, durable: true };
        return tell_live(invocation, &client, follow, super::following(&args.patience), false);
    }
    let events = history(&client, &job)?;
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&events)?)?;
        return Ok(exit::OK);
    }
    let first_ns = events.first().and_then(|event| parse_time_ns(&event.at).ok()).unwrap_or(0);
    let mut table = format::table(&["TIME", "AFTER", "EVENT"]);
    for event in &events {
        let at_ns = parse_time_ns(&event.at).unwrap_or(first_ns);
        let after = std::time::Duration::from_nanos(at_ns.saturating_sub(first_ns));
        table.add_row([
            format::precise_time(at_ns),
            format!("{:.3} s", after.as_secs_f64()),
            jobs::describe(&event.what),
        ]);
    }
    format::print(&table.to_string())?;
    Ok(exit::OK)
}

fn history(client: &Client, job: &str) -> anyhow::Result<Vec<EventView>> {
    let mut events: Vec<EventView> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.id);
        let page = client.history(job, after, PAGE)?;
        let is_last = page.len() < PAGE;
        events.extend(page.into_iter().filter(|event| event.id > after));
        // A host that gives nothing new would be asked for ever.
        if is_last || events.last().is_none_or(|event| event.id == after) {
            return Ok(events);
        }
    }
}

/// Tells what happens to all jobs, until it is told to stop.
pub fn events(invocation: &Invocation<'_>, args: &EventsArgs) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let patience = super::following(&args.patience);
    tell_live(invocation, &client, Follow::All, patience, true)
}

/// Waits for a job to end.
pub fn wait(invocation: &Invocation<'_>, args: &WaitArgs) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, &args.job)?.job_id;
    follow::wait(invocation, &client, &job, super::following(&args.patience))
}

fn tell_live(
    invocation: &Invocation<'_>,
    client: &Client,
    follow: Follow,
    patience: Patience,
    with_job: bool,
) -> anyhow::Result<u8> {
    let cli = invocation.cli;
    for happened in client.events(follow, patience) {
        let notice = match happened? {
            Happened::Event(event) => {
                let line = line(&event, cli.json, with_job)?;
                let mut out = io::stdout().lock();
                let written = writeln!(out, "{line}").and_then(|()| out.flush());
                if let Err(error) = written {
                    format::ignore_gone_reader(Err(error))?;
                    break;
                }
                continue;
            }
            Happened::Lost { why } => why,
            Happened::Restored => "connected again".to_owned(),
            Happened::Output(_) | Happened::Progress(_) | Happened::Lagging => continue,
        };
        if !cli.quiet && !cli.json {
            format::tell(&format!("hb: {notice}"));
        }
    }
    Ok(exit::OK)
}

fn line(event: &EventView, json: bool, with_job: bool) -> anyhow::Result<String> {
    if json {
        return Ok(format::escape_unsafe(&serde_json::to_string(event)?));
    }
    let job = printable(&event.job_id, 200);
    let job = if with_job { format!("{job}  ") } else { String::new() };
    Ok(format!("{}  {job}{}", printable(&event.at, 40), jobs::describe(&event.what)))
}
