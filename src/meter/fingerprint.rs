//! Sixty-four bits that stand for a packet's bytes.

/// The longest key in bytes: what a tee rule's 16-bit length field can ask for.
const MAX_KEY_LEN: usize = u16::MAX as usize;

/// A keyed hash over packet bytes.
///
/// NH, the inner function of UMAC (RFC 4418, section 5.2), over 64-bit words, then one more keyed multiplication to
/// fold 128 bits into 63. Two different inputs that were chosen without knowing the key agree in NH with a chance of
/// 2⁻⁶⁴, and after the fold of about 2⁻⁶³ if that behaves as if random: so under a random key no client can craft
/// packets that are taken for each other's copies.
#[derive(Debug)]
pub(super) struct Fingerprint {
    /// One for every block.
    keys: Vec<[u64; 2]>,
    fold: u64,
}

/// Bytes that are multiplied at once.
const BLOCK: usize = 16;

/// The usual length: what a rule of 128 bytes leaves of a packet without tags.
const USUAL_LEN: usize = 128;

impl Fingerprint {
    /// A function whose key grows out of `seed`, for inputs of at most `max_len` bytes.
    pub(super) fn new(seed: u64, max_len: usize) -> Self {
        let mut state = seed;
        let mut next = || random(&mut state);
        let keys = max_len.min(MAX_KEY_LEN).div_ceil(BLOCK) + 1;
        Fingerprint { fold: next() | 1, keys: (0..keys).map(|_| [next(), next()]).collect() }
    }

    /// The fingerprint of `bytes`; never 0. Bytes beyond the length given to [`Fingerprint::new`] do not take part.
    #[inline(always)]
    pub(super) fn of(&self, bytes: &[u8]) -> u64 {
        let sum = match (<&[u8; USUAL_LEN]>::try_from(bytes), self.keys.first_chunk()) {
            // Lengths that are known when this is compiled leave eight multiplications and no loop.
            (Ok(bytes), Some(keys)) => nh(bytes.as_chunks().0, keys as &[_; USUAL_LEN / BLOCK]),
            _ => self.any(bytes),
        };
        let sum = sum.wrapping_add(u128::from(bytes.len() as u64) << 64);
        let folded = u128::from(sum as u64 ^ self.fold) * u128::from((sum >> 64) as u64 ^ self.fold.rotate_left(32));
        ((folded >> 64) as u64 ^ folded as u64) | 1
    }

    /// The sum over any number of bytes. The last block ends where they end, and may begin in the one before: their
    /// number, which takes part, tells how it lies.
    fn any(&self, bytes: &[u8]) -> u128 {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let sum = nh(blocks, &self.keys);
        let mut padded = [0; BLOCK];
        let last = bytes.last_chunk().unwrap_or_else(|| {
            padded[..rest.len()].copy_from_slice(rest);
            &padded
        });
        match self.keys.get(blocks.len()) {
            Some(key) if !rest.is_empty() => sum.wrapping_add(multiply(last, key)),
            _ => sum,
        }
    }
}

/// NH over whole blocks.
#[inline(always)]
fn nh(blocks: &[[u8; BLOCK]], keys: &[[u64; 2]]) -> u128 {
    blocks.iter().zip(keys).fold(0, |sum, (block, key)| sum.wrapping_add(multiply(block, key)))
}

/// Numbers that grow out of `seed`, other than those of a [`Fingerprint`].
pub(super) fn key(seed: u64) -> [u64; 6] {
    let mut state = !seed;
    [(); 6].map(|()| random(&mut state))
}

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One step of NH: (a + k₀)·(b + k₁) over the two words of a block.
#[inline(always)]
fn multiply(block: &[u8; BLOCK], key: &[u64; 2]) -> u128 {
    let block = u128::from_le_bytes(*block);
    let (a, b) = (block as u64, (block >> 64) as u64);
    u128::from(a.wrapping_add(key[0])) * u128::from(b.wrapping_add(key[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn different_bytes_differ_and_equal_bytes_agree() {
        let fingerprint = Fingerprint::new(7, 128);
        let mut seen = HashSet::new();
        for len in 0..=128 {
            for at in 0..len.max(1) {
                let mut bytes = vec![0; len];
                if len > 0 {
                    bytes[at] = 1;
                }
                assert!(seen.insert(fingerprint.of(&bytes)), "{len} {at}");
                assert_eq!(fingerprint.of(&bytes), fingerprint.of(&bytes.clone()));
            }
        }
    }

    #[test]
    fn the_key_decides() {
        assert_ne!(Fingerprint::new(1, 64).of(b"packet"), Fingerprint::new(2, 64).of(b"packet"));
    }
}
