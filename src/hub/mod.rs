//! Downloads: files from URLs, datasets and models from the Hugging Face hub.
//!
//! Files from URLs are kept in this crate's own cache, files of the hub in the hub's, where its other clients find
//! them. An interrupted download is continued.

mod client;
mod fetch;
pub(crate) mod names;
mod options;
mod repository;

pub use fetch::fetch_url;
pub use options::{Network, RemoteOptions, Reuse};
pub use repository::{hub_files, hub_model};
