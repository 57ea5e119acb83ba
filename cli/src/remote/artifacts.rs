//! What a job on a host left: its artifacts and its seal.
//!
//! Invariant: names come from a stranger's job by way of a host; nothing outside of the directory that the
//! user named can be reached through them.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use cap_std::fs::Dir;
use hb_api::job::ArtifactView;
use hb_client::Client;
use hb_types::{exit, text::printable};

use crate::{Invocation, args::ArtifactsArgs, format};

/// Lists artifacts, or writes them out.
pub fn artifacts(invocation: &Invocation<'_>, args: &ArtifactsArgs) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, &args.job)?.job_id;
    let artifacts = client.artifacts(&job)?;
    if let Some(out) = &args.out {
        write_out(&client, &job, &artifacts, out)?;
        if !invocation.cli.quiet && !invocation.cli.json {
            let count = artifacts.len();
            format::tell(&format!("hb: {count} artifacts written to {}", out.display()));
        }
    }
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&artifacts)?)?;
    } else if args.out.is_none() {
        let mut table = format::table(&["ARTIFACT", "SIZE", "BLAKE3"]);
        for artifact in artifacts {
            let (name, size) = (printable(&artifact.name, 300), format::bytes(artifact.bytes));
            table.add_row([name, size, artifact.digest]);
        }
        format::print(&table.to_string())?;
    }
    Ok(exit::OK)
}

fn write_out(
    client: &Client,
    job: &str,
    artifacts: &[ArtifactView],
    out: &Path,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let dir = Dir::open_ambient_dir(out, cap_std::ambient_authority())
        .with_context(|| format!("cannot open {}", out.display()))?;
    for artifact in artifacts {
        let shown = out.join(&artifact.name);
        let shown = printable(&shown.to_string_lossy(), 500);
        write_one(client, job, artifact, &dir).with_context(|| format!("cannot write {shown}"))?;
    }
    Ok(())
}

fn write_one(client: &Client, job: &str, artifact: &ArtifactView, dir: &Dir) -> anyhow::Result<()> {
    let name = &artifact.name;
    if let Some(parent) = Path::new(name).parent() {
        dir.create_dir_all(parent)?;
    }
    // Under its name it is whole and verified, or not there.
    let partial = format!("{name}.partial-{}", std::process::id());
    let mut file = io::BufWriter::new(dir.create(&partial)?);
    let copied = client.copy_artifact(job, artifact, &mut file).map_err(anyhow::Error::from);
    let placed =
        copied.and_then(|()| Ok(file.flush()?)).and_then(|()| Ok(dir.rename(&partial, dir, name)?));
    if placed.is_err() {
        // The first error says what is wrong; that something stays behind adds nothing.
        let _ = dir.remove_file(&partial);
    }
    placed
}

/// Prints a job's signed envelope.
pub fn seal(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, name)?.job_id;
    let envelope = client.seal(&job)?;
    format::print(&String::from_utf8_lossy(&envelope))?;
    Ok(exit::OK)
}
