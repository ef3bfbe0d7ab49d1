//! Hash maps with integer keys that the kernel assigns: inode numbers, cookies, process and user ids.
//!
//! SipHash, std's default, protects against keys chosen by an attacker. A process cannot choose these
//! keys, and one multiplication takes a tenth of the time.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type IntMap<K, V> = HashMap<K, V, BuildHasherDefault<IntHasher>>;
pub(crate) type IntSet<K> = HashSet<K, BuildHasherDefault<IntHasher>>;

#[derive(Default)]
pub(crate) struct IntHasher(u64);

impl Hasher for IntHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u32(number.cast_unsigned());
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 / golden ratio. Both halves of the product depend on every bit of the number.
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        self.0 = u64::try_from(low ^ high).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_and_aligned_numbers_spread() {
        for step in [1_u64, 2, 8, 4096, 1 << 32] {
            let hash = |number: u64| {
                let mut hasher = IntHasher::default();
                hasher.write_u64(number * step);
                hasher.finish()
            };
            let low: HashSet<u64> = (1..=1024).map(|number| hash(number) % 4096).collect();
            let high: HashSet<u64> = (1..=1024).map(|number| hash(number) >> 57).collect();
            assert!(low.len() > 700 && high.len() > 100, "{step}: {} {}", low.len(), high.len());
        }
    }
}
