//! Groups of rows that are joined in pairs (union-find).

/// Which of some numbers are in one group; a group's root is its least member.
#[derive(Debug, Clone)]
pub(in crate::dataset) struct UnionFind(Vec<u32>);

impl UnionFind {
    /// The numbers below `count`, each in a group of its own.
    pub fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    /// The root of a number's group.
    pub fn root(&self, mut n: u32) -> u32 {
        while self.0[n as usize] != n {
            n = self.0[n as usize];
        }
        n
    }

    /// Joins the groups of two numbers.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.halved(a), self.halved(b));
        self.0[a.max(b) as usize] = a.min(b);
    }

    /// The root, with path halving: each number on the way then points at the one after the next.
    fn halved(&mut self, mut n: u32) -> u32 {
        while self.0[n as usize] != n {
            let above = self.0[self.0[n as usize] as usize];
            self.0[n as usize] = above;
            n = above;
        }
        n
    }

    /// Lets every member point at its root, which keeps the ways short.
    pub fn flatten(&mut self) {
        for n in 0..self.0.len() {
            // Roots come first, so the one that this points at is flat already.
            self.0[n] = self.0[self.0[n] as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UnionFind;

    #[test]
    fn a_root_is_the_least_of_its_group() {
        let mut joined = UnionFind::new(7);
        for (a, b) in [(6, 4), (4, 2), (5, 3), (3, 6)] {
            joined.join(a, b);
        }
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|n| joined.root(n)), [0, 1, 2, 2, 2, 2, 2]);
        joined.flatten();
        assert_eq!(joined.0, [0, 1, 2, 2, 2, 2, 2]);
    }
}
