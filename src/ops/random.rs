//! Random numbers without hidden state: each is a pure function of (seed, stream, epoch, index).
//!
//! A run that is resumed, rewound or spread over several devices draws the same numbers because no
//! generator is carried along. The numbers are ChaCha8's (D. J. Bernstein, 2008), whose key is the
//! four coordinates.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a random number is for; numbers of different streams are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The order of the examples.
    Order,
    /// The first values of the adapters.
    Init,
    /// Which units dropout leaves out.
    Dropout,
    /// Which token is generated.
    Sampling,
    /// Which rows are held out.
    Split,
    /// What measured directions are held against: random ones.
    Control,
    /// Which rows a sample with replacement has.
    Bootstrap,
}

/// A source of numbers that starts at the given coordinates.
#[derive(Debug, Clone)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The numbers at (seed, stream, epoch, index).
    ///
    /// # Examples
    /// ```
    /// use lorascope::ops::random::{Random, Stream};
    ///
    /// let a = Random::at(42, Stream::Order, 0, 7).unit();
    /// assert_eq!(a, Random::at(42, Stream::Order, 0, 7).unit());
    /// assert_ne!(a, Random::at(42, Stream::Order, 1, 7).unit());
    /// ```
    pub fn at(seed: u64, stream: Stream, epoch: u64, index: u64) -> Self {
        let mut key = [0u8; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([seed, stream as u64, epoch, index]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number in [0, bound), without bias; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Numbers at or above the largest multiple of the bound are drawn again.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.0.next_u64();
            if draw < limit {
                return draw % bound;
            }
        }
    }

    /// A number of the normal distribution with mean 0 and variance 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The numbers 0..n in random order (Fisher and Yates): the order of the examples in an epoch.
///
/// # Examples
/// ```
/// let order = lorascope::ops::random::permutation(5, 42, 0);
/// let mut sorted = order.clone();
/// sorted.sort();
/// assert_eq!(sorted, [0, 1, 2, 3, 4]);
/// assert_eq!(order, lorascope::ops::random::permutation(5, 42, 0));
/// ```
pub fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut random = Random::at(seed, Stream::Order, epoch, 0);
    for i in (1..n).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

/// SplitMix64 (Steele, Lea and Flood 2014, *Fast splittable pseudorandom number generators*). A step costs a
/// few instructions: for what draws a number for every element of a tensor, and for tables and files whose
/// numbers must never change. Everything else draws from [`Random`].
///
/// # Examples
/// ```
/// use lorascope::ops::random::SplitMix64;
///
/// assert_eq!(SplitMix64::new(0).next(), 0xe220_a839_7b1d_cdaf);
/// assert_eq!(SplitMix64::at(1), 0xe220_a839_7b1d_cdaf);
/// ```
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// What each step adds to the state: 2⁶⁴ divided by the golden ratio.
    pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The generator that starts at this state.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        Self::mix(self.0)
    }

    /// The n-th number from the state 0, counted from 1, without those before it.
    pub const fn at(n: u64) -> u64 {
        Self::mix(n.wrapping_mul(Self::STEP))
    }

    const fn mix(state: u64) -> u64 {
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
