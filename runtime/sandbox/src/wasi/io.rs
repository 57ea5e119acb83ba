//! Polling and the words of stream errors.
//!
//! The mechanics are those of wasmtime-wasi-io. Ours is what would differ between a run and its
//! continuation: the order of a poll's answer must not follow from handle numbers, and an error's
//! text must not depend on the host's environment.

use hb_types::text;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::{error, poll, streams};

use crate::{abort::Abort, pulse::Pulse};

/// Bytes of an error's text.
const ERROR_BYTES: usize = 4096;

pub(crate) struct IoView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) pulse: &'a Pulse,
}

pub(crate) struct HasIo;

impl HasData for HasIo {
    type Data<'a> = IoView<'a>;
}

impl error::Host for IoView<'_> {}

impl error::HostError for IoView<'_> {
    fn to_debug_string(&mut self, error: Resource<streams::Error>) -> wasmtime::Result<String> {
        let error = self.table.get(&error)?;
        Ok(text::printable(&format!("{error:#}"), ERROR_BYTES))
    }

    fn drop(&mut self, error: Resource<streams::Error>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

impl poll::Host for IoView<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.pulse.check()?;
        if pollables.is_empty() {
            return Err(Abort::Contract("it polls an empty list".to_owned()).into());
        }
        let mut ready = poll::Host::poll(self.table, pollables).await?;
        ready.sort_unstable();
        Ok(ready)
    }
}

impl poll::HostPollable for IoView<'_> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.table, pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::block(self.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
