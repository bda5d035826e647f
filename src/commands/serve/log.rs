//! One line per change of state, on standard error.

use crate::time::Timestamp;

/// Something changed, as it should.
pub(super) fn info(message: &str) {
    line("INFO", message);
}

/// Something is not as it should be.
pub(super) fn warn(message: &str) {
    line("WARN", message);
}

fn line(level: &str, message: &str) {
    let (seconds, _) = Timestamp::now().clamped();
    // A closed standard error is no reason to stop counting.
    use std::io::Write;
    writeln!(std::io::stderr(), "{} {level} {message}", Timestamp::new(seconds, 0)).ok();
}
