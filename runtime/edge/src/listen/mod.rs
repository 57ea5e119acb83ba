//! From sockets to connections that speak HTTP.
//!
//! Owns: addresses, TLS, how many connections there are, how long each may take, and how all of them end.
//! Knows nothing of: routes and what a request means.

mod accept;
mod address;
mod bind;
mod drive;
mod inherited;
mod preface;
mod tls;
mod wire;

pub(crate) use accept::Listener;
pub use accept::Served;
pub use address::{Address, ParseAddressError};
pub use bind::ListenError;
pub(crate) use bind::{Socket, bind};
pub(crate) use drive::Driver;
pub(crate) use tls::Tls;
pub use tls::{TlsError, TlsFiles};
