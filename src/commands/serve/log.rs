//! One line per change of state, on standard error.

use super::say;
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
    say(&format!("{} {level} {message}", Timestamp::new(seconds, 0)));
}
