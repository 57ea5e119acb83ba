//! Sockets: there are none, so no descriptor is one.

use super::{
    Call,
    descriptors::Fd,
    errno::{Answer, Errno},
};

impl Call<'_> {
    pub(super) fn sock_accept(&mut self, fd: Fd, _flags: u32, _out: u32) -> Answer {
        self.not_a_socket(fd)
    }

    pub(super) fn sock_recv(
        &mut self,
        fd: Fd,
        _vectors: u32,
        _count: u32,
        _flags: u32,
        _out_bytes: u32,
        _out_flags: u32,
    ) -> Answer {
        self.not_a_socket(fd)
    }

    pub(super) fn sock_send(
        &mut self,
        fd: Fd,
        _vectors: u32,
        _count: u32,
        _flags: u32,
        _out_bytes: u32,
    ) -> Answer {
        self.not_a_socket(fd)
    }

    pub(super) fn sock_shutdown(&mut self, fd: Fd, _how: u32) -> Answer {
        self.not_a_socket(fd)
    }

    fn not_a_socket(&self, fd: Fd) -> Answer {
        self.guest.preview1.descriptors.get(fd)?;
        Err(Errno::Notsock.into())
    }
}
