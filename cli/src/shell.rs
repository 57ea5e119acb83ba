//! `hb completions` and `hb man`: the command line as shells and manual readers want it.
//!
//! Owns: files of both kinds, made from the one grammar in `args.rs`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use hb_types::exit;

use crate::{args::Cli, format};

#[derive(Debug, Args)]
#[command(
    after_help = "For example: hb completions bash > ~/.local/share/bash-completion/completions/hb\n\
             hb completions zsh > \"${fpath[1]}/_hb\"\n\
             hb completions fish > ~/.config/fish/completions/hb.fish"
)]
pub struct CompletionsArgs {
    /// For which shell.
    pub shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "To read one: hb man | man -l -")]
pub struct ManArgs {
    /// Write one page for each command to this directory, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints the completions for a shell.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hb", &mut script);
    print_bytes(&script)?;
    Ok(exit::OK)
}

/// Prints the page of hb, or writes all.
pub fn man(args: &ManArgs) -> anyhow::Result<u8> {
    let Some(directory) = &args.out else {
        let mut page = Vec::new();
        manual(pages().swap_remove(0)).render(&mut page)?;
        print_bytes(&page)?;
        return Ok(exit::OK);
    };
    write_pages(directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    Ok(exit::OK)
}

fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for command in pages() {
        let manual = manual(command);
        let mut page = Vec::new();
        manual.render(&mut page)?;
        fs::write(directory.join(manual.get_filename()), page)?;
    }
    Ok(())
}

fn manual(command: Command) -> Man {
    Man::new(command).source(concat!("hb ", env!("CARGO_PKG_VERSION"))).manual("HackBrain")
}

/// hb, and each of its commands under the name of its page.
fn pages() -> Vec<Command> {
    let mut whole = Cli::command();
    whole.build();
    let mut pages = Vec::new();
    collect(&whole, "hb", "hb", &mut pages);
    pages
}

/// A page has the name by which `man` finds it, and shows the command as it is typed.
fn collect(command: &Command, name: &str, typed: &str, pages: &mut Vec<Command>) {
    let page = command.clone().display_name(name.to_owned());
    pages.push(page.bin_name(typed.to_owned()).version(env!("CARGO_PKG_VERSION")));
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            let verb = below.get_name();
            collect(below, &format!("{name}-{verb}"), &format!("{typed} {verb}"), pages);
        }
    }
}

/// As it is: scripts and pages are for programs.
fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let mut out = io::stdout().lock();
    format::ignore_gone_reader(out.write_all(bytes).and_then(|()| out.flush()))
}
