//! Singular value spectra of B·A, computed without forming B·A.
