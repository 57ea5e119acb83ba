//! Name look-up: refused, whatever the name.
//!
//! wasmtime-wasi would refuse too, but only after it has looked at the name, and it answers what
//! looks like an address; and a name may be as long as a host call may carry, so each call must
//! ask whether the run may go on.

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynPollable, Network, SocketError,
    bindings::sockets::{
        ip_name_lookup::{Host, HostResolveAddressStream, ResolveAddressStream},
        network::{self, ErrorCode, HostNetwork, IpAddress},
    },
};

use crate::{abort::Abort, pulse::Pulse};

pub(crate) struct NamesView<'a> {
    pub(crate) pulse: &'a Pulse,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasNames;

impl HasData for HasNames {
    type Data<'a> = NamesView<'a>;
}

/// There is never a stream to ask, because no look-up succeeds.
fn no_stream() -> Abort {
    Abort::Contract("it uses a stream of addresses that it was never given".to_owned())
}

impl network::Host for NamesView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        _error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
    }
}

impl HostNetwork for NamesView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl Host for NamesView<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        _name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        self.pulse.check().map_err(SocketError::trap)?;
        Err(ErrorCode::PermanentResolverFailure.into())
    }
}

impl HostResolveAddressStream for NamesView<'_> {
    fn resolve_next_address(
        &mut self,
        _stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        Err(SocketError::trap(no_stream()))
    }

    fn subscribe(
        &mut self,
        _stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        Err(no_stream().into())
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
