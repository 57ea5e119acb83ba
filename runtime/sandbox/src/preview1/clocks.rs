//! Reading the two clocks. Waiting is in `poll.rs`.

use super::{
    Call,
    errno::{Answer, Errno},
};
use crate::wasi::clocks::TICK_NS;

/// The clocks that exist: `realtime` and `monotonic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Wall,
    Monotonic,
}

impl Clock {
    /// The processor time of a process or thread is not told: fuel is counted, not time.
    pub(super) fn numbered(number: u32) -> Result<Self, Errno> {
        match number {
            0 => Ok(Self::Wall),
            1 => Ok(Self::Monotonic),
            2 | 3 => Err(Errno::Badf),
            _ => Err(Errno::Inval),
        }
    }
}

impl Call<'_> {
    pub(super) fn clock_res_get(&mut self, clock: u32, out: u32) -> Answer {
        Clock::numbered(clock)?;
        let out = self.memory.part(out, 8)?;
        self.memory.put(&out, &TICK_NS.to_le_bytes());
        Ok(())
    }

    /// All precision that there is costs nothing, so what is asked for does not matter.
    pub(super) fn clock_time_get(&mut self, clock: u32, _precision_ns: u64, out: u32) -> Answer {
        let clock = Clock::numbered(clock)?;
        let out = self.memory.part(out, 8)?;
        let now_ns = match clock {
            Clock::Wall => self.guest.clock.read_wall(),
            Clock::Monotonic => self.guest.clock.read(),
        };
        self.memory.put(&out, &now_ns.to_le_bytes());
        Ok(())
    }
}
