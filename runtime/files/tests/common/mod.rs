//! What the tests share: a world to try things in, and a durable side that keeps captures the
//! way a host does.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, dead_code)]

use std::{collections::BTreeMap, io};

use hb_files::{Handle, Kind, Open, Refused, Root, World};
use hb_types::{
    capture::{ChunkSource, ContentId, NameTree, chunk_count, chunk_len},
    limits::Limits,
};

pub const START_NS: u64 = 1_700_000_000_000_000_000;

pub const CREATE: Open =
    Open { create: true, exclusive: false, truncate: false, directory: false, write: true };
pub const READ: Open =
    Open { create: false, exclusive: false, truncate: false, directory: false, write: false };

pub fn world(limits: &Limits) -> World {
    World::new(tempfile::tempfile().unwrap(), limits, START_NS, Vec::new()).unwrap()
}

/// The whole of a file.
pub fn read_all(world: &mut World, base: Handle, path: &str) -> Result<Vec<u8>, Refused> {
    let file = world.open(base, path, READ, START_NS)?;
    let mut bytes = vec![0xee; usize::try_from(world.stat(file)?.size_bytes).unwrap() + 1];
    let len = world.read_at(file, 0, &mut bytes)?;
    bytes.truncate(len);
    world.close(file);
    Ok(bytes)
}

pub fn write_all(world: &mut World, base: Handle, path: &str, bytes: &[u8]) -> Result<(), Refused> {
    let file = world.open(base, path, Open { truncate: true, ..CREATE }, START_NS)?;
    let done = world.write_at(file, 0, bytes, START_NS);
    world.close(file);
    done
}

pub fn list(world: &mut World, directory: Handle) -> Vec<(String, Kind)> {
    let mut entries: Vec<(String, Kind)> = Vec::new();
    loop {
        let after = entries.last().map(|(name, _)| name.as_str());
        match world.next_entry(directory, after).unwrap() {
            Some(entry) => entries.push((entry.name, entry.kind)),
            None => return entries,
        }
    }
}

/// Opens `/job`.
pub fn job(world: &mut World) -> Handle {
    world.open_root(Root::Job).unwrap()
}

/// Checkpoints as a host keeps them: whole chunks, of which a capture replaces the dirty ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    pub contents: BTreeMap<ContentId, (u64, Vec<Vec<u8>>)>,
    pub names: NameTree,
    pub next_content: u64,
}

impl Durable {
    /// Takes a capture over, checks what it claims, and calls the world clean.
    pub fn save(&mut self, world: &mut World) {
        let (captures, names) = world.capture();
        let ids: Vec<ContentId> = captures.iter().map(|capture| capture.id).collect();
        assert!(ids.is_sorted(), "contents come in order of id");
        let mut contents = BTreeMap::new();
        for capture in captures {
            let (_, mut chunks) = self.contents.remove(&capture.id).unwrap_or_default();
            let old = chunks.clone();
            chunks.resize(chunk_count(capture.len_bytes) as usize, Vec::new());
            assert!(capture.dirty.is_sorted_by(|a, b| a.index < b.index));
            for dirty in &capture.dirty {
                let index = dirty.index as usize;
                let bytes = world.read_chunk(capture.id, dirty.index).unwrap();
                let clean = dirty.clean_prefix_bytes as usize;
                if clean > 0 {
                    assert_eq!(bytes[..clean], old[index][..clean], "the prefix is clean");
                }
                chunks[index] = bytes;
            }
            for (index, chunk) in (0..).zip(&chunks) {
                assert_eq!(chunk.len(), chunk_len(capture.len_bytes, index) as usize);
            }
            contents.insert(capture.id, (capture.len_bytes, chunks));
        }
        *self = Self { contents, names, next_content: world.next_content() };
        world.mark_clean();
        let (captures, _) = world.capture();
        assert!(captures.iter().all(|capture| capture.dirty.is_empty()));
    }

    /// The same, from nothing: every chunk read.
    pub fn full(world: &World) -> Self {
        let (captures, names) = world.capture();
        let contents = captures.iter().map(|capture| {
            let chunks = (0..chunk_count(capture.len_bytes))
                .map(|index| world.read_chunk(capture.id, index).unwrap())
                .collect();
            (capture.id, (capture.len_bytes, chunks))
        });
        Self { contents: contents.collect(), names, next_content: world.next_content() }
    }

    pub fn restore(&self, world: &mut World) {
        let contents: Vec<_> =
            self.contents.iter().map(|(id, (len_bytes, _))| (*id, *len_bytes)).collect();
        world.restore(&contents, &self.names, self.next_content, self).unwrap();
        let (captures, names) = world.capture();
        assert_eq!(names, self.names);
        assert!(captures.iter().all(|capture| capture.dirty.is_empty()));
        assert_eq!(Self::full(world), *self);
    }
}

impl ChunkSource for Durable {
    fn read_chunk(&self, id: ContentId, index: u32) -> io::Result<Vec<u8>> {
        let chunks = self.contents.get(&id).map(|(_, chunks)| chunks);
        chunks
            .and_then(|chunks| chunks.get(index as usize).cloned())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}
