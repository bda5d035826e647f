//! What waits for a failed disk.

use crate::meter::Meter;
use crate::time::BUCKET_SECONDS;
use crate::traffic::DeltaRow;

/// Keeps what waits for a failed disk in bounded memory, at the cost of the history's detail.
pub(super) struct Widening {
    /// Rows at which the next step is taken.
    pub(super) at: usize,
    /// To which lengths of a bucket.
    steps: std::slice::Iter<'static, u32>,
    seconds: u32,
}

/// An hour, a day.
const WIDER: [u32; 2] = [3600, 86_400];

/// Memory for rows that wait, in bytes.
const MAX_WAITING: usize = 64 << 20;

impl Default for Widening {
    fn default() -> Self {
        let mut steps = WIDER.iter();
        let seconds = steps.next().copied().unwrap_or(BUCKET_SECONDS);
        Widening { at: MAX_WAITING / size_of::<DeltaRow>(), steps, seconds }
    }
}

impl Widening {
    /// To be called often: widens what waits if it has become too much.
    pub(super) fn watch(&mut self, meter: &mut Meter) {
        while meter.rows() >= self.at {
            meter.widen(self.seconds);
            // What has just been merged must not be merged again for a few rows more.
            if meter.rows() < self.at / 2 {
                break;
            }
            match self.steps.next() {
                Some(seconds) => self.seconds = *seconds,
                None => self.at = self.at.max(2 * meter.rows()),
            }
        }
    }
}
