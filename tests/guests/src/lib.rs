//! The guests, built from source by this crate's build script, and where they lie.
//!
//! Owns nothing but paths. `cargo build --release -p hb-guests` leaves every guest in
//! `target/guests/NAME.wasm`. A test file that calls [`foreach_guest!`] compiles only if it has a
//! test for each guest, by its name.

use std::{
    io::{self, Write},
    path::Path,
};

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The path of a guest that needs a compiler which not every machine has; says so where it was
/// not built. With `HB_REQUIRE_ALL=1` the build fails instead.
fn or_skipped(name: &str, path: Option<&'static str>) -> Option<&'static Path> {
    if path.is_none() {
        // Past the test harness, which hides what passing tests print. Whether anybody reads it
        // does not matter to the test.
        let _ = writeln!(io::stderr(), "skipped: {name}: {NO_CLANG}");
    }
    path.map(Path::new)
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
