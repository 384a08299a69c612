//! Files of rows: containers, schemas, what is kept of a row and what is wrong in it.

#[path = "../common/mod.rs"]
mod common;

mod aside;
mod calls;
mod carried;
mod containers;
mod folders;
mod histories;
mod lists;
mod lossless;
mod maps;
mod marks;
mod parquet;
mod preference_shapes;
mod preferences;
mod proposals;
mod python_json;
mod reasoning;
mod schemas;
mod shapes;
mod turn_keys;
