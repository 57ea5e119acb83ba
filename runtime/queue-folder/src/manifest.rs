//! From a file's bytes to a manifest that can be handed in.
//!
//! Owns: files that a manifest names by path instead of digest, and the name of a job that its
//! manifest does not name. Knows nothing of when a file is looked at.

use hb_api::manifest::Manifest;
use hb_types::{Digest, text::printable};

use crate::{
    desk::{Desk, HandError},
    folder::Folder,
};

/// Whether a text names a file: `./a.wasm`, `dir/a.wasm`, `a.wasm`. A digest has no dot and no slash.
fn is_path(text: &str) -> bool {
    text.contains(['/', '.'])
}

/// Reads a manifest, also in the older form; the error says where it makes no sense.
pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    Manifest::read(bytes).map_err(|error| format!("this is no manifest: {error}"))
}

/// Takes in the files that a manifest names, puts their digests in their places, and gives it the
/// name of a job of its own: made of the file's name and its bytes, so that the same file dropped
/// twice is one job.
pub fn complete(
    folder: &Folder,
    desk: &dyn Desk,
    file_name: &str,
    digest: Digest,
    manifest: Manifest,
) -> Result<Manifest, HandError> {
    let take = |field: &str, text: String| -> Result<String, HandError> {
        if !is_path(&text) {
            return Ok(text);
        }
        let shown = printable(&text, 200);
        let mut file = folder.open_named(&text).map_err(|error| {
            HandError::Refused(format!(
                "{field}: the file {shown:?} cannot be read ({error}); it must lie below the queue folder"
            ))
        })?;
        Ok(desk.take_in(&mut file)?.to_string())
    };
    let mut manifest = manifest;
    if manifest.program.is_none()
        && let Some(component) = &manifest.component
        && is_path(component)
    {
        manifest.program = component.rsplit('/').next().map(str::to_owned);
    }
    manifest.component = manifest.component.map(|text| take("component", text)).transpose()?;
    manifest.stdin = manifest.stdin.map(|text| take("stdin", text)).transpose()?;
    for (name, text) in &mut manifest.inputs {
        let field = format!("inputs.{}", printable(name, 80));
        *text = take(&field, std::mem::take(text))?;
    }
    if manifest.job_id.is_none() {
        manifest.job_id = Some(job_id(file_name, digest));
    }
    Ok(manifest)
}

fn job_id(file_name: &str, digest: Digest) -> String {
    let stem = file_name.strip_suffix(".json").unwrap_or(file_name);
    let name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(80)
        .collect();
    let name = name.trim_start_matches(['.', '-']);
    let name = if name.is_empty() { "job" } else { name };
    format!("{name}-{}", digest.short())
}
