//! Checkpoints: what changed, and everything put back.
//!
//! Owns: the world as contents and names, and back. What has no name is in no checkpoint: a
//! file that was removed but is still open is gone after a restoring.
//! Knows nothing of: how chunks are kept.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use hb_types::capture::{
    ChunkSource, ContentCapture, ContentId, NameTree, Node as CapturedNode, NodeKind, chunk_count,
    chunk_len,
};

use crate::{
    content::Content,
    output::Output,
    path,
    refused::HostFault,
    scratch::Scratch,
    tree::{DirectoryNumber, Node, Place, Times},
    world::{FileNode, Root, World},
};

/// The roots that a checkpoint holds.
const CAPTURED_ROOTS: [Root; 2] = [Root::Job, Root::Out];

/// Why a checkpoint could not be put back. The world must not be used any more.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The chunk could not be read.
    #[error("chunk {index} of content {} could not be read", id.0)]
    Source {
        /// Whose.
        id: ContentId,
        /// Which.
        index: u32,
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// The chunk has not the length that its content says.
    #[error(
        "chunk {index} of content {} has {found_bytes} bytes where its content's length says {expected_bytes}",
        id.0
    )]
    ChunkLength {
        /// Whose.
        id: ContentId,
        /// Which.
        index: u32,
        /// What follows from the content's length.
        expected_bytes: u32,
        /// What was read.
        found_bytes: usize,
    },
    /// Names and contents do not belong together.
    #[error("the checkpoint's names and contents do not belong together: {0}")]
    Inconsistent(String),
    /// The machine's own disk failed.
    #[error(transparent)]
    Host(#[from] HostFault),
}

impl World {
    /// Stdout, stderr and every file that has a name, in order of id, with the chunks that changed
    /// since [`Self::mark_clean`]; and the names. Costs in proportion to the files and the
    /// changed chunks; no data is read.
    pub fn capture(&self) -> (Vec<ContentCapture>, NameTree) {
        let outputs = [(ContentId::STDOUT, &self.stdout), (ContentId::STDERR, &self.stderr)];
        let outputs = outputs.map(|(id, output)| ContentCapture {
            id,
            len_bytes: output.len_bytes(),
            dirty: output.dirty(),
        });
        let files = self.files.iter().filter(|(_, file)| file.has_name).map(|(&id, file)| {
            ContentCapture { id, len_bytes: file.content.len_bytes(), dirty: file.content.dirty() }
        });
        (outputs.into_iter().chain(files).collect(), self.names())
    }

    fn names(&self) -> NameTree {
        let mut names = NameTree::new();
        let mut waiting: Vec<(DirectoryNumber, String)> =
            CAPTURED_ROOTS.map(|root| (root.number(), root.name().to_owned())).into();
        while let Some((number, above)) = waiting.pop() {
            for (name, node) in &self.tree.directory(number).entries {
                let path = format!("{above}/{name}");
                let (kind, times) = match *node {
                    Node::Directory(number) => {
                        waiting.push((number, path.clone()));
                        (NodeKind::Directory, self.tree.directory(number).times)
                    }
                    Node::File(id) => (NodeKind::File(id), self.file(id).times),
                    Node::Input(_) => unreachable!("inputs stand below /in only"),
                };
                let Times { modified_ns, accessed_ns } = times;
                names.insert(path, CapturedNode { kind, modified_ns, accessed_ns });
            }
        }
        names
    }

    /// Says that the last capture is durable: nothing is dirty any more.
    pub fn mark_clean(&mut self) {
        self.stdout.mark_clean();
        self.stderr.mark_clean();
        for file in self.files.values_mut() {
            file.content.mark_clean();
        }
    }

    /// Puts a checkpoint back in place of everything, and leaves it clean.
    ///
    /// Handles on the roots and on inputs stay good; all others go stale. Limits are not applied:
    /// what was within them when it was captured is taken as it is.
    pub fn restore(
        &mut self,
        contents: &[(ContentId, u64)],
        names: &NameTree,
        next_content: u64,
        source: &dyn ChunkSource,
    ) -> Result<(), RestoreError> {
        self.clear();
        for &(id, len_bytes) in contents {
            match id {
                ContentId::STDOUT => {
                    restore_output(&mut self.stdout, &mut self.scratch, id, len_bytes, source)?;
                }
                ContentId::STDERR => {
                    restore_output(&mut self.stderr, &mut self.scratch, id, len_bytes, source)?;
                }
                id if id >= ContentId::FIRST_FILE && id.0 < next_content => {
                    self.restore_file(id, len_bytes, source)?;
                }
                id => return Err(inconsistent(format!("content {} has no use", id.0))),
            }
        }
        self.restore_names(names)?;
        if let Some((id, _)) = self.files.iter().find(|(_, file)| !file.has_name) {
            return Err(inconsistent(format!("content {} has no name", id.0)));
        }
        self.used_files = names.len() as u64;
        self.next_content = next_content;
        self.mark_clean();
        Ok(())
    }

    fn clear(&mut self) {
        let tree = &self.tree;
        self.handles.retain(|_, node| match *node {
            Node::Directory(number) => tree.is_root(number),
            Node::Input(_) => true,
            Node::File(_) => false,
        });
        self.tree.clear();
        self.files.clear();
        self.stdout.forget();
        self.stderr.forget();
        self.scratch.release_all();
        self.used_bytes = 0;
        self.used_files = 0;
    }

    fn restore_file(
        &mut self,
        id: ContentId,
        len_bytes: u64,
        source: &dyn ChunkSource,
    ) -> Result<(), RestoreError> {
        let mut content = Content::default();
        for index in 0..chunk_count(len_bytes) {
            let bytes = read_chunk(source, id, len_bytes, index)?;
            content.push_clean(&mut self.scratch, &bytes)?;
        }
        let file = FileNode { content, times: self.start, has_name: false, opens: 0 };
        if self.files.insert(id, file).is_some() {
            return Err(inconsistent(format!("content {} stands twice", id.0)));
        }
        self.used_bytes += len_bytes;
        Ok(())
    }

    fn restore_names(&mut self, names: &NameTree) -> Result<(), RestoreError> {
        // In byte order a directory comes before everything below it.
        let mut directories: HashMap<&str, DirectoryNumber> =
            CAPTURED_ROOTS.map(|root| (root.name(), root.number())).into();
        for (path, captured) in names {
            let place = place_of(&directories, path)
                .ok_or_else(|| inconsistent(format!("{path:?} stands in no directory")))?;
            self.tree.check_new(place, 0).map_err(|refused| {
                inconsistent(format!("{path:?} cannot stand in its directory: {refused}"))
            })?;
            let times =
                Times { modified_ns: captured.modified_ns, accessed_ns: captured.accessed_ns };
            match captured.kind {
                NodeKind::Directory => {
                    directories.insert(path, self.tree.insert_directory(place, times));
                }
                NodeKind::File(id) => {
                    name_file(&mut self.files, id, times)
                        .ok_or_else(|| inconsistent(format!("{path:?} has no content")))?;
                    self.tree.insert(place, Node::File(id));
                }
            }
        }
        Ok(())
    }
}

fn place_of<'a>(directories: &HashMap<&str, DirectoryNumber>, path: &'a str) -> Option<Place<'a>> {
    let (above, name) = path.rsplit_once('/')?;
    let parent = *directories.get(above)?;
    path::check_name(name).ok()?;
    Some(Place { parent, name, must_be_directory: false })
}

/// Gives a restored file its one name; none where there is no such file or it has a name.
fn name_file(files: &mut BTreeMap<ContentId, FileNode>, id: ContentId, times: Times) -> Option<()> {
    let file = files.get_mut(&id).filter(|file| !file.has_name)?;
    file.has_name = true;
    file.times = times;
    Some(())
}

fn restore_output(
    output: &mut Output,
    scratch: &mut Scratch,
    id: ContentId,
    len_bytes: u64,
    source: &dyn ChunkSource,
) -> Result<(), RestoreError> {
    if output.len_bytes() > 0 {
        return Err(inconsistent(format!("content {} stands twice", id.0)));
    }
    for index in 0..chunk_count(len_bytes) {
        output.push_clean(scratch, &read_chunk(source, id, len_bytes, index)?)?;
    }
    Ok(())
}

fn read_chunk(
    source: &dyn ChunkSource,
    id: ContentId,
    len_bytes: u64,
    index: u32,
) -> Result<Vec<u8>, RestoreError> {
    let bytes = source.read_chunk(id, index).map_err(|source| RestoreError::Source {
        id,
        index,
        source,
    })?;
    let expected_bytes = chunk_len(len_bytes, index);
    if bytes.len() != expected_bytes as usize {
        let found_bytes = bytes.len();
        return Err(RestoreError::ChunkLength { id, index, expected_bytes, found_bytes });
    }
    Ok(bytes)
}

fn inconsistent(what: String) -> RestoreError {
    RestoreError::Inconsistent(what)
}

impl ChunkSource for World {
    fn read_chunk(&self, id: ContentId, index: u32) -> io::Result<Vec<u8>> {
        let chunk = match id {
            ContentId::STDOUT => self.stdout.chunk(&self.scratch, index),
            ContentId::STDERR => self.stderr.chunk(&self.scratch, index),
            id => match self.files.get(&id) {
                Some(file) => file.content.chunk(&self.scratch, index),
                None => Ok(None),
            },
        };
        chunk.map_err(io::Error::other)?.ok_or_else(|| {
            let message = format!("content {} has no chunk {index}", id.0);
            io::Error::new(io::ErrorKind::NotFound, message)
        })
    }
}
