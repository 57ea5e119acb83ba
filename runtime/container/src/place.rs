//! The directories of the machine in which one running job has its files.
//!
//! Owns: their layout, whose they are, and the note by which a later host finds out whether a
//! container that still runs is one that it can take over. Knows nothing of engines.
//!
//! ```text
//! NAME/job NAME/out         what the container sees as /job and /out
//! NAME/in                   its inputs
//! NAME/io                   what it sees as /hackbrain: socket, streams, the Python module
//! NAME/note.json            the container that uses all this
//! ```

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use hb_session::Input;
use serde::{Deserialize, Serialize};

/// The module by which Python programs speak the checkpoint protocol.
const PYTHON_MODULE: &str = include_str!("../../../python/hackbrain.py");

/// Who a container's files belong to: the user that its program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// Whether files have to be given to it: they are made by another one.
    pub give: bool,
}

/// The user without rights, as most systems have it.
const NOBODY: u32 = 65534;

impl User {
    /// The user that containers run as: nobody where this process may give files away, else the one
    /// that this process is; none where a container wants to be root and this process is not.
    pub(crate) fn choose(wants_root: bool) -> Option<Self> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        match (wants_root, uid.is_root()) {
            (true, true) => Some(Self { uid: 0, gid: 0, give: false }),
            (true, false) => None,
            (false, true) => Some(Self { uid: NOBODY, gid: NOBODY, give: true }),
            (false, false) => Some(Self { uid: uid.as_raw(), gid: gid.as_raw(), give: false }),
        }
    }

    fn own(self, path: &Path) -> io::Result<()> {
        if self.give { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}

/// What a later host has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The start of the machine: files and containers of an earlier one prove nothing.
    pub boot: String,
    /// Hash of the job.
    pub job_hash: String,
    /// The container.
    pub container: String,
    /// Whether its program was let go.
    pub released: bool,
    /// Whether the program goes on from a checkpoint of the ledger: it was given one, or made one.
    pub bound: bool,
}

/// One job's directories.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
    pub(crate) user: User,
}

/// The two streams.
pub(crate) const STREAMS: [&str; 2] = ["stdout", "stderr"];

impl Place {
    pub(crate) fn new(root: PathBuf, user: User) -> Self {
        Self { root, user }
    }

    /// A directory of it, by its name in the layout.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes it anew, with nothing in it but inputs.
    pub(crate) fn prepare(
        &self,
        inputs: &[Input],
        stdin: Option<&mut File>,
        preflight: Option<&str>,
    ) -> io::Result<()> {
        remove(&self.root)?;
        for name in ["job", "out", "in", "io"] {
            fs::create_dir_all(self.path(name))?;
        }
        for name in ["job", "out"] {
            self.user.own(&self.path(name))?;
            fs::set_permissions(self.path(name), Permissions::from_mode(0o755))?;
        }
        for input in inputs {
            let mut file = readable(&self.path("in").join(&input.name))?;
            io::copy(&mut &input.file, &mut file)?;
        }
        let mut file = readable(&self.path("io/stdin"))?;
        if let Some(stdin) = stdin {
            io::copy(stdin, &mut file)?;
        }
        fs::write(self.path("io/hackbrain.py"), PYTHON_MODULE)?;
        if let Some(preflight) = preflight {
            fs::write(self.path("io/preflight"), preflight)?;
        }
        for name in STREAMS {
            let path = self.path("io").join(name);
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            self.user.own(&path)?;
        }
        for name in ["in", "io"] {
            fs::set_permissions(self.path(name), Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Makes the pipe at which a program waits until it is let go.
    pub(crate) fn make_gate(&self) -> io::Result<()> {
        let path = self.path("io/gate");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))
    }

    /// Lets the program go, once it waits; false while it does not.
    pub(crate) fn open_gate(&self) -> io::Result<bool> {
        use std::io::Write as _;
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        let flags = i32::try_from(flags).expect("flags of open(2)");
        let gate = OpenOptions::new().write(true).custom_flags(flags).open(self.path("io/gate"));
        match gate {
            Ok(mut gate) => gate.write_all(b"\n").map(|()| true),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A socket on which programs in the container find the host.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let directory = File::open(self.path("io"))?;
        // The name of a socket may be only some hundred bytes long, a data directory's longer.
        let short = format!("/proc/self/fd/{}/socket", directory.as_raw_fd());
        match fs::remove_file(self.path("io/socket")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(short)?;
        fs::set_permissions(self.path("io/socket"), Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// What the program printed on a stream so far.
    pub(crate) fn stream(&self, name: &str) -> io::Result<File> {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits();
        let flags = i32::try_from(flags).expect("flags of open(2)");
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(self.path("io").join(name))
    }

    /// What was noted of the container that uses it; none where that cannot be read.
    pub(crate) fn note(&self) -> Option<Note> {
        let bytes = fs::read(self.path("note.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn set_note(&self, note: &Note) -> io::Result<()> {
        let text = serde_json::to_vec(note).expect("a note is plain data");
        fs::write(self.path("note.new"), text)?;
        fs::rename(self.path("note.new"), self.path("note.json"))
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.root)
    }
}

/// Removes a directory with everything in it, of a program that has ended. It may have taken its own
/// rights away.
pub(crate) fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_removable(root);
            fs::remove_dir_all(root)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives this process the rights to empty directories below, as far as they are its own.
fn make_removable(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&entry.path());
        }
    }
}

fn readable(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// What tells this start of the machine from others.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
