//! What the copies that came say of those that did not.

/// Packets by how many of their two copies came.
///
/// Each packet between two members arrives twice if the rule is two-sided and no copy is lost. With a share p of the
/// copies lost, p² of the packets are lost with both of theirs (capture-recapture). Packets that the receiver never
/// got are singles too, so p overstates the loss of copies; an overloaded observer loses both copies together, so
/// p² understates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// Packets of which both came.
    pub pairs: u64,
    /// Packets of which one came.
    pub singles: u64,
}

impl Copies {
    /// Below so many paired frames in a thousand it cannot be told what was lost.
    pub const HARDLY_PAIRED: u64 = 100;

    /// The estimated share of packets of which no copy came: p² with p = singles / (2·pairs + singles). None where it
    /// cannot be told.
    pub fn missed_share(self) -> Option<f64> {
        let seen = 2 * self.pairs + self.singles;
        self.is_told().then(|| (self.singles as f64 / seen as f64).powi(2))
    }

    /// An estimate of the packets of which no copy came: singles² / (4·pairs), rounded. None where it cannot be told.
    pub fn lost(self) -> Option<u64> {
        let (pairs, singles) = (u128::from(self.pairs), u128::from(self.singles));
        let lost = (singles.checked_mul(singles)? + 2 * pairs).checked_div(4 * pairs)?;
        u64::try_from(lost).ok().filter(|_| self.is_told())
    }

    fn is_told(self) -> bool {
        let (pairs, singles) = (u128::from(self.pairs), u128::from(self.singles));
        pairs > 0 && 2 * pairs * 1000 >= u128::from(Self::HARDLY_PAIRED) * (2 * pairs + singles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_and_the_number_are_of_one_estimate() {
        for (pairs, singles) in [(1_000, 0), (9_000, 2_000), (500, 500), (100, 1_800)] {
            let copies = Copies { pairs, singles };
            let lost = copies.lost().unwrap() as f64;
            let share = lost / (pairs as f64 + singles as f64 + lost);
            assert!((share - copies.missed_share().unwrap()).abs() < 1e-3, "{copies:?}: {share}");
        }
        for (pairs, singles) in [(0, 0), (0, 5), (100, 1_801)] {
            let copies = Copies { pairs, singles };
            assert_eq!((copies.lost(), copies.missed_share()), (None, None));
        }
    }
}
