//! Random histories against the simplest thing that could be right: a map from paths to bytes.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{CREATE, Durable, START_NS, list, read_all, world};
use hb_files::{Handle, Kind, Open, Refused, Root, World};
use hb_types::{capture::ContentId, limits::Limits};
use proptest::prelude::*;

/// A directory is none.
type Model = BTreeMap<String, Option<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Step {
    Write { path: String, offset: usize, len: usize, seed: u8 },
    Append { path: String, len: usize, seed: u8 },
    SetLen { path: String, len: usize },
    Truncate { path: String },
    CreateNew { path: String },
    MakeDirectory { path: String },
    RemoveDirectory { path: String },
    RemoveFile { path: String },
    Rename { from: String, to: String },
    Print { len: usize, seed: u8 },
    Save,
    Restore,
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b"]);
    let root = prop::sample::select(vec!["job", "out"]);
    (root, prop::collection::vec(name, 1..4))
        .prop_map(|(root, names)| format!("{root}/{}", names.join("/")))
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![0..200_usize, 65_500..65_600_usize, 0..200_000_usize];
    let len = prop_oneof![0..200_usize, 65_500..65_600_usize, 0..150_000_usize];
    prop_oneof![
        4 => (path(), offset, len.clone(), any::<u8>())
            .prop_map(|(path, offset, len, seed)| Step::Write { path, offset, len, seed }),
        2 => (path(), len.clone(), any::<u8>())
            .prop_map(|(path, len, seed)| Step::Append { path, len, seed }),
        2 => (path(), len.clone()).prop_map(|(path, len)| Step::SetLen { path, len }),
        1 => path().prop_map(|path| Step::Truncate { path }),
        1 => path().prop_map(|path| Step::CreateNew { path }),
        3 => path().prop_map(|path| Step::MakeDirectory { path }),
        1 => path().prop_map(|path| Step::RemoveDirectory { path }),
        2 => path().prop_map(|path| Step::RemoveFile { path }),
        3 => (path(), path()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => (len, any::<u8>()).prop_map(|(len, seed)| Step::Print { len, seed }),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
    ]
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap())).collect()
}

/// The name of a refusal, for comparison.
fn name(refused: &Refused) -> &'static str {
    match refused {
        Refused::NotFound => "not found",
        Refused::Exists => "exists",
        Refused::NotDirectory => "not directory",
        Refused::IsDirectory => "is directory",
        Refused::NotEmpty => "not empty",
        Refused::Invalid => "invalid",
        other => panic!("{other} cannot happen here"),
    }
}

// What the model says.

fn is_directory(model: &Model, path: &str) -> bool {
    !path.contains('/') || matches!(model.get(path), Some(None))
}

/// Every directory on the way must be one.
fn walk(model: &Model, path: &str) -> Result<(), &'static str> {
    for (at, _) in path.match_indices('/') {
        let above = &path[..at];
        if !is_directory(model, above) {
            return Err(if model.contains_key(above) { "not directory" } else { "not found" });
        }
    }
    Ok(())
}

fn file<'a>(model: &'a mut Model, path: &str) -> Result<&'a mut Vec<u8>, &'static str> {
    walk(model, path)?;
    model.entry(path.to_owned()).or_insert_with(|| Some(Vec::new())).as_mut().ok_or("is directory")
}

fn has_children(model: &Model, path: &str) -> bool {
    model.keys().any(|key| key.starts_with(&format!("{path}/")))
}

fn model_rename(model: &mut Model, from: &str, to: &str) -> Result<(), &'static str> {
    // Both walks come first, the source's before the target's.
    walk(model, from)?;
    walk(model, to)?;
    let moved = model.get(from).ok_or("not found")?.clone();
    if from == to {
        return Ok(());
    }
    if moved.is_none() && to.starts_with(&format!("{from}/")) {
        return Err("invalid");
    }
    match (&moved, model.get(to)) {
        (None, Some(None)) if has_children(model, to) => return Err("not empty"),
        (_, None) | (Some(_), Some(Some(_))) | (None, Some(None)) => {}
        (None, Some(Some(_))) => return Err("not directory"),
        (Some(_), Some(None)) => return Err("is directory"),
    }
    let below: Vec<String> =
        model.keys().filter(|key| key.starts_with(&format!("{from}/"))).cloned().collect();
    for key in below {
        let value = model.remove(&key).unwrap();
        model.insert(format!("{to}{}", &key[from.len()..]), value);
    }
    model.remove(from);
    model.insert(to.to_owned(), moved);
    Ok(())
}

fn apply_to_model(model: &mut Model, step: &Step) -> Result<(), &'static str> {
    match step {
        Step::Write { path, offset, len, seed } => {
            let file = file(model, path)?;
            if *len > 0 {
                file.resize(file.len().max(offset + len), 0);
                file[*offset..offset + len].copy_from_slice(&bytes(*len, *seed));
            }
        }
        Step::Append { path, len, seed } => file(model, path)?.extend(bytes(*len, *seed)),
        Step::SetLen { path, len } => file(model, path)?.resize(*len, 0),
        Step::Truncate { path } => file(model, path)?.clear(),
        Step::CreateNew { path } => {
            walk(model, path)?;
            if model.contains_key(path) {
                return Err("exists");
            }
            model.insert(path.clone(), Some(Vec::new()));
        }
        Step::MakeDirectory { path } => {
            walk(model, path)?;
            if model.contains_key(path) {
                return Err("exists");
            }
            model.insert(path.clone(), None);
        }
        Step::RemoveDirectory { path } => {
            walk(model, path)?;
            match model.get(path).ok_or("not found")? {
                Some(_) => return Err("not directory"),
                None if has_children(model, path) => return Err("not empty"),
                None => model.remove(path),
            };
        }
        Step::RemoveFile { path } => {
            walk(model, path)?;
            model.get(path).ok_or("not found")?.as_ref().ok_or("is directory")?;
            model.remove(path);
        }
        Step::Rename { from, to } => model_rename(model, from, to)?,
        Step::Print { .. } | Step::Save | Step::Restore => {}
    }
    Ok(())
}

// What the world does.

struct Roots {
    job: Handle,
    out: Handle,
    now_ns: u64,
}

impl Roots {
    fn split<'a>(&self, path: &'a str) -> (Handle, &'a str) {
        match path.split_once('/').unwrap() {
            ("job", rest) => (self.job, rest),
            (_, rest) => (self.out, rest),
        }
    }
}

fn with_file(
    world: &mut World,
    (base, path): (Handle, &str),
    how: Open,
    now_ns: u64,
    work: impl FnOnce(&mut World, Handle) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let file = world.open(base, path, how, now_ns)?;
    let done = work(world, file);
    world.close(file);
    done
}

fn apply_to_world(world: &mut World, roots: &Roots, step: &Step) -> Result<(), Refused> {
    let now_ns = roots.now_ns;
    match step {
        Step::Write { path, offset, len, seed } => {
            with_file(world, roots.split(path), CREATE, now_ns, |world, file| {
                world.write_at(file, *offset as u64, &bytes(*len, *seed), now_ns)
            })
        }
        Step::Append { path, len, seed } => {
            with_file(world, roots.split(path), CREATE, now_ns, |world, file| {
                world.append(file, &bytes(*len, *seed), now_ns)
            })
        }
        Step::SetLen { path, len } => {
            with_file(world, roots.split(path), CREATE, now_ns, |world, file| {
                world.set_len(file, *len as u64, now_ns)
            })
        }
        Step::Truncate { path } => {
            let how = Open { truncate: true, ..CREATE };
            with_file(world, roots.split(path), how, now_ns, |_, _| Ok(()))
        }
        Step::CreateNew { path } => {
            let how = Open { exclusive: true, ..CREATE };
            with_file(world, roots.split(path), how, now_ns, |_, _| Ok(()))
        }
        Step::MakeDirectory { path } => {
            let (base, path) = roots.split(path);
            world.make_directory(base, path, now_ns)
        }
        Step::RemoveDirectory { path } => {
            let (base, path) = roots.split(path);
            world.remove_directory(base, path, now_ns)
        }
        Step::RemoveFile { path } => {
            let (base, path) = roots.split(path);
            world.remove_file(base, path, now_ns)
        }
        Step::Rename { from, to } => {
            let ((from_base, from), (to_base, to)) = (roots.split(from), roots.split(to));
            world.rename(from_base, from, to_base, to, now_ns)
        }
        Step::Print { len, seed } => world.append_output(ContentId::STDOUT, &bytes(*len, *seed)),
        Step::Save | Step::Restore => Ok(()),
    }
}

/// Reads the whole tree back through the world's own directories.
fn contents_of(world: &mut World, roots: &Roots) -> Model {
    let mut model = Model::new();
    let mut waiting = vec!["job".to_owned(), "out".to_owned()];
    while let Some(path) = waiting.pop() {
        let inside = format!("{path}/.");
        let (base, rest) = roots.split(&inside);
        let how = Open { directory: true, ..Open::default() };
        let directory = world.open(base, rest, how, START_NS).unwrap();
        let entries = list(world, directory);
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
        for (name, kind) in entries {
            let path = format!("{path}/{name}");
            let value = match kind {
                Kind::Directory => {
                    waiting.push(path.clone());
                    None
                }
                Kind::File => Some(read_all(world, directory, &name).unwrap()),
            };
            model.insert(path, value);
        }
        world.close(directory);
    }
    model
}

fn output(world: &World) -> Vec<u8> {
    Durable::full(world).contents[&ContentId::STDOUT].1.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_world_does_what_the_model_does_and_comes_back_from_any_checkpoint(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = world(&Limits::default());
        let mut roots = Roots {
            job: world.open_root(Root::Job).unwrap(),
            out: world.open_root(Root::Out).unwrap(),
            now_ns: START_NS,
        };
        let (mut model, mut printed) = (Model::new(), Vec::new());
        let mut durable = Durable::default();
        durable.save(&mut world);
        let mut kept = (model.clone(), printed.clone());
        for step in &steps {
            let expected = apply_to_model(&mut model, step);
            roots.now_ns += 1;
            let found = apply_to_world(&mut world, &roots, step);
            prop_assert_eq!(found.as_ref().map_err(name), expected.as_ref().map_err(|e| *e), "{:?}", step);
            match step {
                Step::Print { len, seed } => printed.extend(bytes(*len, *seed)),
                Step::Save => {
                    durable.save(&mut world);
                    prop_assert_eq!(&durable, &Durable::full(&world));
                    kept = (model.clone(), printed.clone());
                }
                Step::Restore => {
                    durable.restore(&mut world);
                    (model, printed) = kept.clone();
                }
                _ => {}
            }
        }
        prop_assert_eq!(contents_of(&mut world, &roots), model.clone());
        prop_assert_eq!(output(&world), printed);

        // A second world that is given the checkpoint is the same.
        durable.save(&mut world);
        let mut second = common::world(&Limits::default());
        durable.restore(&mut second);
        let roots = Roots {
            job: second.open_root(Root::Job).unwrap(),
            out: second.open_root(Root::Out).unwrap(),
            now_ns: START_NS,
        };
        prop_assert_eq!(contents_of(&mut second, &roots), model);
    }
}
