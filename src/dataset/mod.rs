//! Instruction-tuning data in one canonical table: opening, reporting, converting.
