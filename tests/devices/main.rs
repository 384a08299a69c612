//! Several devices at once: the numbers of one device, whatever is split over how many.

#[path = "../common/mod.rs"]
mod common;

mod blocked_attention;
mod device_families;
mod device_followers;
mod device_precision;
mod device_runs;
mod device_sums;
mod half_precision;
