//! Directories: the ones that a guest is given, and listing.
//!
//! A listing is `.`, `..` and the names in byte order. A cookie is the number of entries before
//! it. The cookies of the last listing's end are remembered with the names that they stand after,
//! so that a program which removes what it has listed misses nothing; any other is counted from
//! the start.

use super::{
    Call,
    descriptors::{Directory, Fd},
    errno::{Answer, Errno},
    status,
};
use crate::pulse::Pulse;

/// Bytes of the record `dirent`, after which the name comes.
const ENTRY_BYTES: usize = 24;
/// `.` and `..`.
const DOTS: [&str; 2] = [".", ".."];
/// Entries between two looks at whether the run may go on.
const LOOK: u64 = 1024;
/// A guest goes on after the last entry that it was given whole; the one after it may be cut.
const REMEMBERED: usize = 2;

/// How far a listing has come.
struct Listing {
    cookie: u64,
    /// The last name before; none before the first.
    after: Option<String>,
}

impl Listing {
    /// Goes to a cookie; none where the directory has no entry there any more.
    fn at(directory: &Directory, cookie: u64, pulse: &Pulse) -> Answer<Option<Self>> {
        let dots = DOTS.len() as u64;
        if cookie <= dots {
            return Ok(Some(Self { cookie, after: None }));
        }
        if let Some((_, name)) = directory.resume.iter().find(|(known, _)| *known == cookie) {
            return Ok(Some(Self { cookie, after: Some(name.clone()) }));
        }
        let world = directory.node.world();
        let mut after = None;
        for position in dots..cookie {
            if position % LOOK == 0 {
                pulse.check()?;
            }
            match world.next_entry(directory.node.handle(), after.as_deref())? {
                Some(entry) => after = Some(entry.name),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { cookie, after }))
    }

    /// The next entry as the guest gets it.
    fn next(&mut self, directory: &Directory) -> Answer<Option<Vec<u8>>> {
        let world = directory.node.world();
        let dot = usize::try_from(self.cookie).ok().and_then(|cookie| DOTS.get(cookie));
        let (stat, name) = if let Some(dot) = dot {
            // Above the first directory there is nothing, so `..` is said to be `.`.
            (world.stat(directory.node.handle())?, *dot)
        } else {
            let handle = directory.node.handle();
            let Some(entry) = world.next_entry(handle, self.after.as_deref())? else {
                return Ok(None);
            };
            let stat = world.stat_at(handle, &entry.name)?;
            (stat, &**self.after.insert(entry.name))
        };
        self.cookie += 1;
        let name_len = u32::try_from(name.len()).expect("names are short");
        let mut record = vec![0; ENTRY_BYTES];
        record[..8].copy_from_slice(&self.cookie.to_le_bytes());
        record[8..16].copy_from_slice(&stat.identity.to_le_bytes());
        record[16..20].copy_from_slice(&name_len.to_le_bytes());
        record[20] = status::file_type(stat.kind);
        record.extend_from_slice(name.as_bytes());
        Ok(Some(record))
    }
}

impl Call<'_> {
    /// Fills the buffer; where it is not full afterwards, the directory is at its end. The last
    /// entry may be cut.
    pub(super) fn fd_readdir(
        &mut self,
        fd: Fd,
        buffer: u32,
        len_bytes: u32,
        cookie: u64,
        out: u32,
    ) -> Answer {
        let out = self.memory.part(out, 4)?;
        let buffer = self.memory.part(buffer, len_bytes)?;
        let directory = self.guest.preview1.descriptors.directory(fd)?;
        let mut listing = Listing::at(directory, cookie, &self.guest.pulse)?;
        let mut resume = Vec::new();
        let mut filled = 0;
        while let Some(listing) = &mut listing
            && filled < buffer.len()
        {
            if listing.cookie % LOOK == 0 {
                self.guest.pulse.check()?;
            }
            let Some(mut record) = listing.next(directory)? else { break };
            record.truncate(buffer.len() - filled);
            let start = buffer.start + filled;
            self.memory.put(&(start..start + record.len()), &record);
            filled += record.len();
            self.within_hostcall_bytes(filled)?;
            if let Some(name) = &listing.after {
                resume.truncate(REMEMBERED - 1);
                resume.insert(0, (listing.cookie, name.clone()));
            }
        }
        if !resume.is_empty() {
            self.guest.preview1.descriptors.directory_mut(fd)?.resume = resume;
        }
        let filled = u32::try_from(filled).expect("no more than the buffer");
        self.memory.put(&out, &filled.to_le_bytes());
        Ok(())
    }

    pub(super) fn fd_prestat_get(&mut self, fd: Fd, out: u32) -> Answer {
        let out = self.memory.part(out, 8)?;
        let name = self.given_name(fd)?.ok_or(Errno::Badf)?;
        let name_len = u32::try_from(name.len()).expect("a few bytes");
        self.memory.put(&out, &[0; 4]);
        self.memory.put(&(out.start + 4..out.end), &name_len.to_le_bytes());
        Ok(())
    }

    pub(super) fn fd_prestat_dir_name(&mut self, fd: Fd, path: u32, len_bytes: u32) -> Answer {
        let path = self.memory.part(path, len_bytes)?;
        let name = self.given_name(fd)?.ok_or(Errno::Notdir)?;
        if name.len() > path.len() {
            return Err(Errno::Nametoolong.into());
        }
        self.memory.put(&path, name.as_bytes());
        Ok(())
    }

    /// The absolute path of a directory that the guest was given; none for what it opened.
    fn given_name(&self, fd: Fd) -> Result<Option<String>, Errno> {
        match self.guest.preview1.descriptors.directory(fd) {
            Ok(directory) => Ok(directory.root.map(|root| format!("/{}", root.name()))),
            Err(Errno::Notdir) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}
