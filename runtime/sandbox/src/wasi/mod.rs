//! The world that a guest sees through WASI 0.2.
//!
//! Owns: which implementation stands behind each interface. Environment, arguments, terminals,
//! sockets (all refused) and the mechanics of streams are wasmtime-wasi's; clocks, random numbers,
//! standard streams, polling and files are ours, because they must be the same in a repetition.

pub(crate) mod clocks;
pub(crate) mod filesystem;
pub(crate) mod io;
pub(crate) mod names;
pub(crate) mod random;
pub(crate) mod stdio;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{
    cli::WasiCli,
    p2::bindings::{cli, clocks as clock_bindings, random as random_bindings, sockets},
    sockets::WasiSockets,
};
use wasmtime_wasi_io::bindings::wasi::io as io_bindings;

use crate::guest::Guest;

/// The table behind the streams of wasmtime-wasi-io.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links every WASI interface that exists here.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    io_bindings::error::add_to_linker::<Guest, io::HasIo>(linker, Guest::io)?;
    io_bindings::poll::add_to_linker::<Guest, io::HasIo>(linker, Guest::io)?;
    io_bindings::streams::add_to_linker::<Guest, HasTable>(linker, |guest| &mut guest.table)?;

    clock_bindings::monotonic_clock::add_to_linker::<Guest, clocks::HasClocks>(
        linker,
        Guest::clocks,
    )?;
    clock_bindings::wall_clock::add_to_linker::<Guest, clocks::HasClocks>(linker, Guest::clocks)?;

    random_bindings::random::add_to_linker::<Guest, random::HasRandom>(linker, Guest::random)?;
    random_bindings::insecure::add_to_linker::<Guest, random::HasRandom>(linker, Guest::random)?;
    random_bindings::insecure_seed::add_to_linker::<Guest, random::HasRandom>(
        linker,
        Guest::random,
    )?;

    filesystem::add_to_linker(linker)?;
    command_line(linker)?;
    network(linker)
}

fn command_line(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    cli::environment::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(linker, Guest::command_line)?;
    cli::stdin::add_to_linker::<Guest, stdio::HasStdio>(linker, Guest::stdio)?;
    cli::stdout::add_to_linker::<Guest, stdio::HasStdio>(linker, Guest::stdio)?;
    cli::stderr::add_to_linker::<Guest, stdio::HasStdio>(linker, Guest::stdio)
}

/// The interfaces are there, because most programs import them unasked; every socket is refused
/// when it is created and every name when it is looked up.
fn network(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::instance_network::add_to_linker::<Guest, WasiSockets>(linker, Guest::network)?;
    sockets::network::add_to_linker::<Guest, WasiSockets>(linker, &options, Guest::network)?;
    sockets::ip_name_lookup::add_to_linker::<Guest, names::HasNames>(linker, Guest::names)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, Guest::network)?;
    sockets::udp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, Guest::network)?;
    sockets::tcp::add_to_linker::<Guest, WasiSockets>(linker, Guest::network)?;
    sockets::udp::add_to_linker::<Guest, WasiSockets>(linker, Guest::network)
}
