//! What describes a container on the command line.
//!
//! Owns: the flags, and the way from them to a container. Knows nothing of engines.

use std::{fs, path::PathBuf};

use clap::Args;
use hb_types::container::Container;

use crate::{failure::Failure, job_flags::JobFlags};

/// A native program instead of a component.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Container")]
pub struct ContainerFlags {
    /// Run a program of this container image instead of a component: its command stands behind --.
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["module", "argv0"])]
    pub image: Option<String>,
    /// Show the container a directory of the machine, below one that the operator allowed; :rw lets
    /// it change it.
    #[arg(long, value_name = "SOURCE:TARGET[:rw]", requires = "image")]
    pub mount: Vec<String>,
    /// Let the container do one thing more, if the operator allowed it: network, writable-root,
    /// root-user, capability=NAME, new-privileges, any-system-call, pids=COUNT, tmp=SIZE, shm=SIZE.
    #[arg(long, value_name = "GRANT", requires = "image")]
    pub grant: Vec<String>,
    /// Run this shell script in the container before the program; where it fails, the job ends.
    #[arg(long, value_name = "FILE", requires = "image")]
    pub preflight: Option<PathBuf>,
}

impl ContainerFlags {
    /// The container that is asked for, if one is; `pin` finds out what its image is.
    pub fn container(
        &self,
        job: &JobFlags,
        pin: impl FnOnce(&str) -> anyhow::Result<String>,
    ) -> anyhow::Result<Option<Container>> {
        let Some(name) = &self.image else { return Ok(None) };
        let usage = |why: String| anyhow::Error::from(Failure::Usage(why));
        if job.arguments.is_empty() {
            return Err(usage("an image needs a command: name a program of it behind --".into()));
        }
        let mut container = Container::of_image(String::new(), name.clone());
        for text in &self.mount {
            container.mounts.push(text.parse().map_err(|why| usage(format!("--mount: {why}")))?);
        }
        for text in &self.grant {
            container.grants.push(text.parse().map_err(|why| usage(format!("--grant: {why}")))?);
        }
        container.normalise();
        if let Some(path) = &self.preflight {
            let text = fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                Failure::NotFound(format!("the pre-flight script {path} cannot be read: {error}"))
            })?;
            container.preflight = Some(text);
        }
        container.image = pin(name)?;
        Ok(Some(container))
    }
}
