//! Every dependency of both workspaces has a licence that `licences.toml` permits.
//!
//! Looks at what is built for Linux and for the guests' target, as cargo resolves it from the lock
//! files; licence texts themselves are not read.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

/// Our own.
const OWN: &str = "Apache-2.0";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    allow: BTreeSet<String>,
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    package: String,
    licence: String,
    why: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn metadata(workspace: &str, target: &str) -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join(workspace).join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", target].map(str::to_owned))
        .exec()
        .unwrap()
}

fn packages() -> Vec<(bool, Package)> {
    let workspaces = [(".", "x86_64-unknown-linux-gnu"), ("guests", "wasm32-wasip2")];
    let mut packages = Vec::new();
    for (workspace, target) in workspaces {
        let metadata = metadata(workspace, target);
        let own: BTreeSet<_> = metadata.workspace_members.iter().cloned().collect();
        let resolved: BTreeSet<_> =
            metadata.resolve.unwrap().nodes.into_iter().map(|node| node.id).collect();
        packages.extend(
            metadata
                .packages
                .into_iter()
                .filter(|package| resolved.contains(&package.id))
                .map(|package| (own.contains(&package.id), package)),
        );
    }
    packages
}

/// Which permitted licences satisfy an expression; `None` when they do not.
fn satisfied_by(expression: &str, permitted: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    // Old manifests write `MIT/Apache-2.0`.
    let expression = Expression::parse_mode(expression, ParseMode::LAX).ok()?;
    let mut used = BTreeSet::new();
    let accepts = |requirement: &LicenseReq| {
        let name = requirement.to_string();
        permitted.contains(&name) && {
            used.insert(name);
            true
        }
    };
    expression.evaluate(accepts).then_some(used)
}

#[test]
fn every_dependency_has_a_permitted_licence_and_every_permission_is_needed() {
    let text = fs::read_to_string(root().join("licences.toml")).unwrap();
    let rules: Rules = toml::from_str(&text).unwrap();
    let mut exceptions: BTreeMap<&str, &Exception> = BTreeMap::new();
    for exception in &rules.exception {
        assert!(!exception.why.trim().is_empty(), "{}: say why", exception.package);
        let earlier = exceptions.insert(&exception.package, exception);
        assert!(earlier.is_none(), "{}: two exceptions", exception.package);
    }
    let (mut unused, mut unused_exceptions) = (rules.allow.clone(), exceptions.clone());
    let mut refused = Vec::new();
    let packages = packages();
    assert!(packages.len() > 50, "only {} packages were looked at", packages.len());
    for (own, package) in packages {
        let licence = package.license.as_deref().unwrap_or("none");
        if own {
            assert_eq!(
                licence, OWN,
                "{} is ours and must be licensed as the project",
                package.name
            );
        } else if let Some(used) = satisfied_by(licence, &rules.allow) {
            unused.retain(|licence| !used.contains(licence));
        } else if exceptions.get(package.name.as_str()).is_some_and(|one| one.licence == licence) {
            unused_exceptions.remove(package.name.as_str());
        } else {
            refused.push(format!("{} {}: {licence}", package.name, package.version));
        }
    }
    assert!(
        refused.is_empty(),
        "not permitted by licences.toml:\n  {}\nuse another package, or permit the licence there",
        refused.join("\n  ")
    );
    let unused: Vec<_> =
        unused.iter().map(String::as_str).chain(unused_exceptions.into_keys()).collect();
    assert!(unused.is_empty(), "licences.toml permits what nothing needs: {unused:?}; remove it");
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let permitted = BTreeSet::from(["MIT", "Apache-2.0", "Zlib"].map(str::to_owned));
    let is_permitted = |expression| satisfied_by(expression, &permitted).is_some();
    for good in ["MIT", "MIT OR GPL-3.0-only", "MIT/GPL-2.0", "(MIT OR GPL-3.0-only) AND Zlib"] {
        assert!(is_permitted(good), "{good}");
    }
    for bad in [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "Apache-2.0 WITH LLVM-exception",
        "none",
        "",
        "MIT OR",
    ] {
        assert!(!is_permitted(bad), "{bad}");
    }
}

#[test]
fn the_project_carries_its_own_licence() {
    let licence = fs::read_to_string(root().join("LICENSE")).unwrap();
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
}
