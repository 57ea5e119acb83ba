//! Reading and writing: files, which have a position, and streams, which have none.
//!
//! Invariants: bytes go between the guest's memory and the job's files without a copy between
//! them, in pieces, so that a long transfer can be ended; what was moved before an error is
//! counted and the error left to the next call, as POSIX has it.

use super::{
    Call,
    descriptors::{Fd, Object, flag},
    errno::{Answer, Errno, Failure},
    memory::{Memory, Part},
};
use crate::{
    pulse::Pulse,
    wasi::{clocks::VirtualClock, filesystem::OpenNode},
};

/// Bytes between two looks at whether the run may go on, and in one message to a watcher.
const PIECE_BYTES: usize = 64 * 1024;
/// The greatest position, because differences of positions are signed.
const MAX_POSITION: u64 = i64::MAX.cast_unsigned();

impl Call<'_> {
    pub(super) fn fd_read(&mut self, fd: Fd, vectors: u32, count: u32, out: u32) -> Answer {
        let out = self.memory.part(out, 4)?;
        let pieces = self.pieces(vectors, count)?;
        let guest = &mut *self.guest;
        let moved = match &mut guest.preview1.descriptors.get_mut(fd)?.object {
            Object::Output(_) => return Err(Errno::Badf.into()),
            Object::Directory(_) => return Err(Errno::Isdir.into()),
            // One piece: after that, standard input might have to be waited for.
            Object::Stdin => match pieces.into_iter().next() {
                Some(piece) => guest.stdio.read(self.memory.bytes_mut(piece))?,
                None => 0,
            },
            Object::File(file) => {
                file.check_read()?;
                let moved =
                    read(&mut self.memory, &guest.pulse, &file.node, file.position, pieces)?;
                file.position += moved as u64;
                moved
            }
        };
        self.moved(&out, moved);
        Ok(())
    }

    pub(super) fn fd_pread(
        &mut self,
        fd: Fd,
        vectors: u32,
        count: u32,
        offset: u64,
        out: u32,
    ) -> Answer {
        let out = self.memory.part(out, 4)?;
        let pieces = self.pieces(vectors, count)?;
        let guest = &mut *self.guest;
        let file = match &guest.preview1.descriptors.get(fd)?.object {
            Object::Stdin | Object::Output(_) => return Err(Errno::Spipe.into()),
            Object::Directory(_) => return Err(Errno::Isdir.into()),
            Object::File(file) => file,
        };
        file.check_read()?;
        let moved = read(&mut self.memory, &guest.pulse, &file.node, offset, pieces)?;
        self.moved(&out, moved);
        Ok(())
    }

    pub(super) fn fd_write(&mut self, fd: Fd, vectors: u32, count: u32, out: u32) -> Answer {
        let out = self.memory.part(out, 4)?;
        let pieces = self.pieces(vectors, count)?;
        let guest = &mut *self.guest;
        let descriptor = guest.preview1.descriptors.get_mut(fd)?;
        let moved = match &mut descriptor.object {
            Object::Stdin => return Err(Errno::Badf.into()),
            Object::Directory(_) => return Err(Errno::Isdir.into()),
            Object::Output(stream) => {
                let mut moved = 0;
                for piece in pieces {
                    moved += piece.len();
                    guest.stdio.append(*stream, self.memory.bytes(piece))?;
                }
                moved
            }
            Object::File(file) => {
                file.check_write()?;
                let place = if descriptor.flags & flag::APPEND == 0 {
                    Place::At(file.position)
                } else {
                    Place::End
                };
                let moved =
                    write(&self.memory, &guest.pulse, &guest.clock, &file.node, place, pieces)?;
                file.position = match place {
                    Place::At(offset) => offset + moved as u64,
                    Place::End if moved == 0 => file.position,
                    Place::End => file.node.world().stat(file.node.handle())?.size_bytes,
                };
                moved
            }
        };
        self.moved(&out, moved);
        Ok(())
    }

    /// Writes at `offset` also where the descriptor appends.
    pub(super) fn fd_pwrite(
        &mut self,
        fd: Fd,
        vectors: u32,
        count: u32,
        offset: u64,
        out: u32,
    ) -> Answer {
        let out = self.memory.part(out, 4)?;
        let pieces = self.pieces(vectors, count)?;
        let guest = &mut *self.guest;
        let file = match &guest.preview1.descriptors.get(fd)?.object {
            Object::Stdin | Object::Output(_) => return Err(Errno::Spipe.into()),
            Object::Directory(_) => return Err(Errno::Isdir.into()),
            Object::File(file) => file,
        };
        file.check_write()?;
        let place = Place::At(offset);
        let moved = write(&self.memory, &guest.pulse, &guest.clock, &file.node, place, pieces)?;
        self.moved(&out, moved);
        Ok(())
    }

    pub(super) fn fd_seek(&mut self, fd: Fd, offset: i64, whence: u32, out: u32) -> Answer {
        let out = self.memory.part(out, 8)?;
        let file = self.guest.preview1.descriptors.seekable(fd)?;
        let base = match whence {
            0 => 0,
            1 => file.position,
            2 => file.node.world().stat(file.node.handle())?.size_bytes,
            _ => return Err(Errno::Inval.into()),
        };
        let position = base.checked_add_signed(offset).ok_or(if offset < 0 {
            Errno::Inval
        } else {
            Errno::Overflow
        })?;
        if position > MAX_POSITION {
            return Err(Errno::Overflow.into());
        }
        file.position = position;
        self.memory.put(&out, &position.to_le_bytes());
        Ok(())
    }

    pub(super) fn fd_tell(&mut self, fd: Fd, out: u32) -> Answer {
        let out = self.memory.part(out, 8)?;
        let position = self.guest.preview1.descriptors.seekable(fd)?.position;
        self.memory.put(&out, &position.to_le_bytes());
        Ok(())
    }

    /// Nothing is read ahead, so advice changes nothing.
    pub(super) fn fd_advise(&mut self, fd: Fd, _offset: u64, _len: u64, advice: u32) -> Answer {
        const ADVICES: u32 = 6;
        self.guest.preview1.descriptors.file(fd)?;
        if advice >= ADVICES {
            return Err(Errno::Inval.into());
        }
        Ok(())
    }

    /// Makes a file at least so long. What is within its length counts for the quota already, so
    /// writing there cannot fail later.
    pub(super) fn fd_allocate(&mut self, fd: Fd, offset: u64, len_bytes: u64) -> Answer {
        let guest = &mut *self.guest;
        let file = guest.preview1.descriptors.file(fd)?;
        file.check_write()?;
        if len_bytes == 0 {
            return Err(Errno::Inval.into());
        }
        let end = offset.checked_add(len_bytes).ok_or(Errno::Fbig)?;
        let mut world = file.node.world();
        if world.stat(file.node.handle())?.size_bytes < end {
            world.set_len(file.node.handle(), end, guest.clock.wall_ns())?;
        }
        Ok(())
    }

    pub(super) fn fd_filestat_set_size(&mut self, fd: Fd, size_bytes: u64) -> Answer {
        let guest = &mut *self.guest;
        let file = guest.preview1.descriptors.file(fd)?;
        file.check_write()?;
        let now_ns = guest.clock.wall_ns();
        Ok(file.node.world().set_len(file.node.handle(), size_bytes, now_ns)?)
    }

    pub(super) fn fd_close(&mut self, fd: Fd) -> Answer {
        Ok(self.guest.preview1.descriptors.close(fd)?)
    }

    pub(super) fn fd_renumber(&mut self, from: Fd, to: Fd) -> Answer {
        Ok(self.guest.preview1.descriptors.renumber(from, to)?)
    }

    /// Nothing is buffered, and only the host makes anything durable.
    pub(super) fn fd_sync(&mut self, fd: Fd) -> Answer {
        self.guest.preview1.descriptors.get(fd)?;
        Ok(())
    }

    pub(super) fn fd_datasync(&mut self, fd: Fd) -> Answer {
        self.fd_sync(fd)
    }

    /// The pieces of a list of buffers, as many as one call may move.
    fn pieces(&self, vectors: u32, count: u32) -> Answer<Vec<Part>> {
        let parts = self.memory.vectors(vectors, count)?;
        let share = self.share(parts.iter().map(Part::len).sum())?;
        Ok(pieces(parts, share))
    }

    fn moved(&mut self, out: &Part, moved: usize) {
        let moved = u32::try_from(moved).expect("all buffers together are shorter than 4 GiB");
        self.memory.put(out, &moved.to_le_bytes());
    }
}

/// Cuts parts into pieces, up to `left` bytes in all.
fn pieces(parts: Vec<Part>, mut left: usize) -> Vec<Part> {
    let mut pieces = Vec::new();
    for part in parts {
        let end = part.start + part.len().min(left);
        left -= end - part.start;
        let starts = (part.start..end).step_by(PIECE_BYTES);
        pieces.extend(starts.map(|start| start..end.min(start + PIECE_BYTES)));
    }
    pieces
}

fn read(
    memory: &mut Memory<'_>,
    pulse: &Pulse,
    node: &OpenNode,
    offset: u64,
    pieces: Vec<Part>,
) -> Answer<usize> {
    let mut moved = 0;
    for piece in pieces {
        pulse.check()?;
        let wanted = piece.len();
        let world = node.world();
        let size_bytes = world.stat(node.handle())?.size_bytes;
        let found = match offset.checked_add(moved as u64) {
            Some(at) if at < size_bytes => {
                world.read_at(node.handle(), at, memory.bytes_mut(piece))?
            }
            _ => 0,
        };
        moved += found;
        if found < wanted {
            break;
        }
    }
    Ok(moved)
}

/// Where bytes are written.
#[derive(Clone, Copy)]
enum Place {
    At(u64),
    End,
}

fn write(
    memory: &Memory<'_>,
    pulse: &Pulse,
    clock: &VirtualClock,
    node: &OpenNode,
    place: Place,
    pieces: Vec<Part>,
) -> Answer<usize> {
    let mut moved = 0;
    for piece in pieces {
        pulse.check()?;
        let bytes = memory.bytes(piece);
        let mut world = node.world();
        let result = match place {
            Place::At(offset) => {
                // Past the greatest number there is no file either.
                let at = offset.saturating_add(moved as u64);
                world.write_at(node.handle(), at, bytes, clock.wall_ns())
            }
            Place::End => world.append(node.handle(), bytes, clock.wall_ns()),
        };
        match result.map_err(Failure::from) {
            Ok(()) => moved += bytes.len(),
            Err(Failure::Errno(_)) if moved > 0 => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_one_by_one_and_together() {
        let found = pieces(vec![5..5, 10..20, 0..PIECE_BYTES + 3, 7..8], PIECE_BYTES + 12);
        assert_eq!(found, [10..20, 0..PIECE_BYTES, PIECE_BYTES..PIECE_BYTES + 2]);
        assert_eq!(pieces(vec![3..9, 5..6], 0), []);
    }
}
