//! Charts of plain numbers: each function takes vectors and gives a `Figure`.
