//! Singular value spectra of scale·B·A, computed without forming B·A.
//!
//! With B = Q_B·R_B and Aᵀ = Q_A·R_A the product is Q_B·(R_B·R_Aᵀ)·Q_Aᵀ, so its singular values
//! are those of the r×r core R_B·R_Aᵀ, in f64. A 4096×4096 module of rank 16 costs two QR
//! decompositions of 4096×16 and one decomposition of 16×16.
//!
//! Shapes: r rank, A `[r, in]`, B `[out, r]`, scale = alpha/r (alpha/√r for rsLoRA).

mod adapter_spectrum;
mod advice;
mod base_weight;
mod bidiagonal;
mod captions;
mod charts;
mod factor_matrix;
mod gram;
mod householder;
mod intruders;
mod jacobi;
mod layer_place;
mod measures;
mod product_svd;
mod spectra;
mod spectral_measure;
mod subspace_overlap;
mod tables;
mod vectors;
mod weighted;

pub use adapter_spectrum::Spectrum;
pub use advice::{Advice, Advised, Scaling};
pub use base_weight::BaseWeight;
pub use intruders::{Amplification, Intruder, IntruderConfig, Intruders};
pub use layer_place::LayerPlace;
pub(crate) use layer_place::{called, ends_in};
pub use spectra::Spectra;
pub use spectral_measure::SpectralMeasure;
pub use subspace_overlap::{Side, SubspaceOverlap, principal_angles};
pub use vectors::Vectors;
