//! The guests, built from source by this crate's build script, and where they lie.
//!
//! Owns nothing but paths: `HELLO.path()`, and so on for each name in capitals. `cargo build --release -p hb-guests` leaves every guest in
//! `target/guests/NAME.wasm`. A test file that calls [`foreach_guest!`] compiles only if it has a
//! test for each guest, by its name.

use std::{
    io::{self, Write},
    path::Path,
};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// A guest that was built, or could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its name: a crate in `guests/` or a file in `guests/c`.
    pub name: &'static str,
    path: &'static str,
    skipped: Option<&'static str>,
}

impl Guest {
    /// Where it lies.
    pub fn path(&self) -> &'static Path {
        Path::new(self.path)
    }

    /// Whether it could not be built on this machine; if so, says why on standard error. With
    /// `HB_REQUIRE_ALL=1` the build fails instead.
    pub fn is_skipped(&self) -> bool {
        if let Some(reason) = self.skipped {
            // Past the test harness, which hides what passing tests print. Whether anybody reads
            // it does not matter to the test.
            let _ = writeln!(io::stderr(), "skipped: {}: {reason}", self.name);
        }
        self.skipped.is_some()
    }
}

/// Calls the macro that it is given once for each guest, with the guest's name (`-` as `_`).
///
/// Without an argument, it makes the file fail to compile unless each guest has a function of
/// its name, so that no guest is without a test:
///
/// ```
/// # mod tests {
/// fn counter() {}
/// fn ginzburg_landau() {}
/// fn greedy() {}
/// fn hello() {}
/// fn kmer() {}
/// fn sieve() {}
///
/// hb_guests::foreach_guest!();
/// # }
/// ```
///
/// ```compile_fail
/// # mod tests {
/// fn counter() {}
/// fn ginzburg_landau() {}
/// fn greedy() {}
/// fn hello() {}
/// fn kmer() {}
/// // No test for sieve.
///
/// hb_guests::foreach_guest!();
/// # }
/// ```
#[macro_export]
macro_rules! foreach_guest {
    () => {
        macro_rules! assert_guest_has_a_test {
            ($guest:ident) => {
                #[allow(unused_imports)]
                use self::$guest as _;
            };
        }
        $crate::__foreach_guest!(assert_guest_has_a_test);
    };
    ($each:ident) => {
        $crate::__foreach_guest!($each);
    };
}
