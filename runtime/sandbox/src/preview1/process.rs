//! What a program is given and how it ends: arguments, environment, random numbers, exit.

use super::{
    Call,
    errno::{Answer, Errno},
};
use crate::{abort::Abort, exit_code};

/// Random bytes between two looks at whether the run may go on: about a millisecond of work.
const RANDOM_BYTES: usize = 1 << 20;

/// A program's arguments or environment: strings, and where a guest finds them.
pub(super) struct Strings(Vec<Vec<u8>>);

impl Strings {
    pub(super) fn arguments(arguments: &[String]) -> Self {
        Self(arguments.iter().map(|argument| terminated(argument.clone())).collect())
    }

    pub(super) fn environment(variables: &[(String, String)]) -> Self {
        Self(variables.iter().map(|(name, value)| terminated(format!("{name}={value}"))).collect())
    }

    /// How many, and how many bytes with the zero after each.
    fn sizes(&self) -> Result<(u32, u32), Errno> {
        let bytes: usize = self.0.iter().map(Vec::len).sum();
        let count = u32::try_from(self.0.len()).map_err(|_| Errno::Overflow)?;
        Ok((count, u32::try_from(bytes).map_err(|_| Errno::Overflow)?))
    }
}

fn terminated(string: String) -> Vec<u8> {
    let mut bytes = string.into_bytes();
    bytes.push(0);
    bytes
}

/// Which of a program's two lists.
#[derive(Clone, Copy)]
enum List {
    Arguments,
    Environment,
}

impl Call<'_> {
    pub(super) fn args_get(&mut self, pointers: u32, buffer: u32) -> Answer {
        self.strings(List::Arguments, pointers, buffer)
    }

    pub(super) fn args_sizes_get(&mut self, count: u32, bytes: u32) -> Answer {
        self.sizes(List::Arguments, count, bytes)
    }

    pub(super) fn environ_get(&mut self, pointers: u32, buffer: u32) -> Answer {
        self.strings(List::Environment, pointers, buffer)
    }

    pub(super) fn environ_sizes_get(&mut self, count: u32, bytes: u32) -> Answer {
        self.sizes(List::Environment, count, bytes)
    }

    fn list(&self, list: List) -> &Strings {
        match list {
            List::Arguments => &self.guest.preview1.arguments,
            List::Environment => &self.guest.preview1.environment,
        }
    }

    fn sizes(&mut self, list: List, count_at: u32, bytes_at: u32) -> Answer {
        let (count, bytes) = self.list(list).sizes()?;
        let parts = [self.memory.part(count_at, 4)?, self.memory.part(bytes_at, 4)?];
        self.memory.put(&parts[0], &count.to_le_bytes());
        self.memory.put(&parts[1], &bytes.to_le_bytes());
        Ok(())
    }

    fn strings(&mut self, list: List, pointers: u32, buffer: u32) -> Answer {
        let (count, bytes) = self.list(list).sizes()?;
        let pointers = self.memory.parts(pointers, count, 4)?;
        let strings_part = self.memory.part(buffer, bytes)?;
        let mut at = strings_part.start;
        let mut address = buffer;
        let strings = match list {
            List::Arguments => &self.guest.preview1.arguments,
            List::Environment => &self.guest.preview1.environment,
        };
        for (index, string) in strings.0.iter().enumerate() {
            let pointer = pointers.start + 4 * index;
            self.memory.put(&(pointer..pointer + 4), &address.to_le_bytes());
            self.memory.put(&(at..at + string.len()), string);
            at += string.len();
            address += u32::try_from(string.len()).expect("their sum fits");
        }
        Ok(())
    }

    pub(super) fn random_get(&mut self, buffer: u32, len_bytes: u32) -> Answer {
        let part = self.memory.part(buffer, len_bytes)?;
        self.within_hostcall_bytes(part.len())?;
        for piece in self.memory.bytes_mut(part).chunks_mut(RANDOM_BYTES) {
            self.guest.pulse.check()?;
            self.guest.random.secure.fill(piece);
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "every function has the same shape")]
    pub(super) fn proc_exit(&mut self, code: u32) -> Answer {
        Err(Abort::Exit(exit_code::low_byte(code)).into())
    }

    /// There are no signals.
    #[expect(clippy::unused_self, reason = "every function has the same shape")]
    pub(super) fn proc_raise(&mut self, _signal: u32) -> Answer {
        Err(Errno::Notsup.into())
    }

    /// There is nobody to yield to.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the shape of all functions")]
    pub(super) fn sched_yield(&mut self) -> Answer {
        Ok(())
    }
}
