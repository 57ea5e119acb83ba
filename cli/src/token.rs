//! `hb token`: who may use a host.
//!
//! Owns: how tokens are made, listed and revoked by hand. A token is shown once; what is kept of it is a
//! hash. A host that serves the same data directory notices within a second.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use hb_config::Config;
use hb_edge::{
    tokens::{self, Scope, TokenInfo},
    trace::{Audit, audit},
};
use hb_types::{exit, units::parse_duration_ms};
use serde_json::json;

use crate::{Invocation, failure::Failure, format};

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token and print it: it is not shown again.
    New(NewArgs),
    /// List tokens, without what is secret of them.
    List,
    /// Revoke a token, by its name or id.
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// What to call it.
    #[arg(long)]
    pub name: String,
    /// What it permits: read, submit (contains read) or admin (contains submit).
    #[arg(long, default_value = "submit")]
    pub scope: Scope,
    /// For how long it is good [default: until it is revoked].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub expires: Option<u64>,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Its name or id.
    pub token: String,
}

/// Where a data directory keeps its tokens.
pub fn directory(config: &Config) -> PathBuf {
    config.data.join("tokens")
}

/// Answers `hb token …`.
pub fn token(invocation: &Invocation<'_>, verb: &TokenVerb) -> anyhow::Result<u8> {
    match verb {
        TokenVerb::New(args) => new(invocation, args),
        TokenVerb::List => list(invocation),
        TokenVerb::Revoke(args) => revoke(invocation, args),
    }
}

fn told(what: &'static str, subject: &str) {
    audit(&Audit { who: "local", peer: "-", what, subject, outcome: "done", code: None });
}

fn new(invocation: &Invocation<'_>, args: &NewArgs) -> anyhow::Result<u8> {
    let expires = args.expires.map(|ms| SystemTime::now() + Duration::from_millis(ms));
    std::fs::create_dir_all(&invocation.config.data)?;
    let made = tokens::create(&directory(&invocation.config), &args.name, args.scope, expires)?;
    told("token new", &args.name);
    if invocation.cli.json {
        let mut value = as_json(&made.info);
        value["token"] = json!(made.token.expose());
        format::print_json(&value)?;
    } else {
        format::print(made.token.expose())?;
        if !invocation.cli.quiet {
            format::tell(&format!(
                "hb: token {} (scope {}); it is not shown again. Use it with --token or HB_TOKEN",
                made.info.name, made.info.scope
            ));
        }
    }
    Ok(exit::OK)
}

fn as_json(info: &TokenInfo) -> serde_json::Value {
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    json!({
        "id": info.id, "name": info.name, "scope": info.scope,
        "created": time(info.created), "expires": info.expires.map(time),
    })
}

fn list(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    let all = tokens::list(&directory(&invocation.config))?;
    if invocation.cli.json {
        format::print_json(&all.iter().map(as_json).collect())?;
        return Ok(exit::OK);
    }
    if all.is_empty() {
        format::print("no tokens; `hb token new --name NAME` makes one")?;
        return Ok(exit::OK);
    }
    let mut table = format::table(&["NAME", "ID", "SCOPE", "CREATED", "EXPIRES"]);
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    for info in all {
        table.add_row([
            info.name,
            info.id,
            info.scope.to_string(),
            time(info.created),
            info.expires.map_or_else(|| "-".to_owned(), time),
        ]);
    }
    format::print(&table.to_string())?;
    Ok(exit::OK)
}

fn revoke(invocation: &Invocation<'_>, args: &RevokeArgs) -> anyhow::Result<u8> {
    let revoked = tokens::revoke(&directory(&invocation.config), &args.token)?;
    if revoked.is_empty() {
        let shown = hb_types::text::printable(&args.token, 100);
        return Err(Failure::NotFound(format!(
            "there is no token {shown:?}: `hb token list` shows them"
        ))
        .into());
    }
    for info in &revoked {
        told("token revoke", &info.name);
        if !invocation.cli.quiet {
            format::tell(&format!("hb: revoked {} ({})", info.name, info.id));
        }
    }
    Ok(exit::OK)
}
