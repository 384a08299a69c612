//! Sets of numbers that were joined.

/// Union-find: each number belongs to one set, whose root is its smallest member.
#[derive(Debug, Clone)]
pub(crate) struct UnionFind(Vec<u32>);

impl UnionFind {
    /// The numbers 0..count, each in a set of its own.
    pub fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    /// The smallest number of the set that `n` belongs to.
    pub fn root(&self, mut n: u32) -> u32 {
        while self.0[n as usize] != n {
            n = self.0[n as usize];
        }
        n
    }

    /// Joins the sets of two numbers.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.shorten(a), self.shorten(b));
        self.0[a.max(b) as usize] = a.min(b);
    }

    /// Lets every number point at its root, which keeps the ways short.
    pub fn flatten(&mut self) {
        for n in 0..self.0.len() {
            // Roots come first, so the one that this points at is flat already.
            self.0[n] = self.0[self.0[n] as usize];
        }
    }

    /// The root, while the way to it is halved.
    fn shorten(&mut self, mut n: u32) -> u32 {
        while self.0[n as usize] != n {
            let above = self.0[self.0[n as usize] as usize];
            self.0[n as usize] = above;
            n = above;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_named_by_its_smallest_number() {
        let mut sets = UnionFind::new(6);
        for (a, b) in [(5, 3), (3, 4), (1, 0), (4, 5)] {
            sets.join(a, b);
        }
        let roots = |sets: &UnionFind| (0..6).map(|n| sets.root(n)).collect::<Vec<_>>();
        assert_eq!(roots(&sets), [0, 0, 2, 3, 3, 3]);
        sets.flatten();
        assert_eq!(roots(&sets), sets.0);
        sets.join(5, 1);
        assert_eq!(roots(&sets), [0, 0, 2, 0, 0, 0]);
    }
}
