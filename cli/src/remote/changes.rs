//! What is asked of a job on a host: end, stop, go on, again, differently.

use hb_api::job::{ForkRequest, HoldRequest, JobView, RetryRequest};
use hb_client::Client;
use hb_types::{exit, limits::Limits};

use super::{
    args::{CancelArgs, ForkArgs, HoldArgs, RetryArgs},
    jobs,
    manifest::changed_limits,
    submit,
};
use crate::{Invocation, format};

/// Cancels a job for good.
pub fn cancel(invocation: &Invocation<'_>, args: &CancelArgs) -> anyhow::Result<u8> {
    let (client, job) = meant(invocation, &args.job)?;
    let job = client.cancel(&job)?;
    // One that runs is asked to end, and does so within moments.
    let over = if job.conclusion.is_some() { "is over" } else { "was asked to end" };
    tell(invocation, &job, over)
}

/// Puts a job on hold.
pub fn hold(invocation: &Invocation<'_>, args: &HoldArgs) -> anyhow::Result<u8> {
    let (client, job) = meant(invocation, &args.job)?;
    let job = client.hold(&job, &HoldRequest { now: args.now })?;
    tell(invocation, &job, "is on hold")
}

/// Lets a job go on.
pub fn release(invocation: &Invocation<'_>, args: &CancelArgs) -> anyhow::Result<u8> {
    let (client, job) = meant(invocation, &args.job)?;
    let job = client.release(&job)?;
    tell(invocation, &job, "goes on")
}

/// Runs a job again, as a new one.
pub fn retry(invocation: &Invocation<'_>, args: &RetryArgs) -> anyhow::Result<u8> {
    let (client, job) = meant(invocation, &args.job)?;
    let limits = changed_limits(&args.limits);
    let request = RetryRequest { from_checkpoint: args.from_checkpoint, limits };
    submit::tell_new_job(invocation, &client.retry(&job, &request)?)
}

/// Goes on from a checkpoint, as a new job.
pub fn fork(invocation: &Invocation<'_>, args: &ForkArgs) -> anyhow::Result<u8> {
    let (client, job) = meant(invocation, &args.job)?;
    let component = match &args.component {
        Some(path) => {
            Some(submit::upload_component(invocation, &client, path, &Limits::default())?)
        }
        None => None,
    };
    let request = ForkRequest {
        at: args.at,
        job_id: args.job_id.clone(),
        arguments: (!args.arguments.is_empty()).then(|| args.arguments.clone()),
        environment: (!args.env.is_empty()).then(|| args.env.iter().cloned().collect()),
        component: component.map(|blob| blob.digest.to_string()),
        limits: changed_limits(&args.limits),
        labels: (!args.label.is_empty()).then(|| args.label.iter().cloned().collect()),
    };
    submit::tell_new_job(invocation, &client.fork(&job, &request)?)
}

/// Starts no more jobs.
pub fn pause(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    super::client(invocation)?.pause_starts()?;
    say(invocation, "no more jobs are started; `hb resume` starts them again");
    Ok(exit::OK)
}

/// Starts jobs again.
pub fn resume(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    super::client(invocation)?.resume_starts()?;
    say(invocation, "jobs are started again");
    Ok(exit::OK)
}

/// A client, and the id of the job that is meant.
fn meant(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<(Client, String)> {
    let client = super::patient_client(invocation)?;
    let job = super::find(&client, name)?.job_id;
    Ok((client, job))
}

fn say(invocation: &Invocation<'_>, text: &str) {
    if !invocation.cli.quiet && !invocation.cli.json {
        format::tell(&format!("hb: {text}"));
    }
}

fn tell(invocation: &Invocation<'_>, job: &JobView, what: &str) -> anyhow::Result<u8> {
    if invocation.cli.json {
        format::print_json(&jobs::job_json(job))?;
    } else {
        say(invocation, &format!("job {} {what} ({})", job.job_id, job.state));
    }
    Ok(exit::OK)
}
