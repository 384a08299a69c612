//! Weights on disk and in memory, layers with forward and backward, generation.
