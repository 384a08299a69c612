//! Files from afar: addresses on the web, datasets and models of the Hugging Face hub.
//!
//! What is fetched is kept: files of the web in this crate's own cache, those of the hub in the
//! hub's, where its other clients find them. What breaks off goes on where it was.

mod client;
mod fetch;
pub(crate) mod names;
mod options;
mod repository;

pub use fetch::fetch_url;
pub use options::{Network, RemoteOptions, Reuse};
pub use repository::{hub_files, hub_model};
