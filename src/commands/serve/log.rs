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
    use std::io::Write;
    let (seconds, _) = Timestamp::now().clamped();
    let line = format!("{} {level} {message}\n", Timestamp::new(seconds, 0));
    // In one piece. A closed standard error is no reason to stop counting.
    std::io::stderr().write_all(line.as_bytes()).ok();
}
