//! Files from afar: addresses on the web, datasets and models of the Hugging Face hub.
//!
//! What is fetched is kept: files of the web in this crate's own cache, those of the hub in the
//! hub's, where its other clients find them. What breaks off goes on where it was.

mod client;
mod fetch;
mod hub;
mod names;
mod options;

pub use fetch::fetch_url;
pub use hub::{hub_files, hub_model};
pub use options::{Network, RemoteOptions, Reuse};
