//! Something that stands in a cell and can be replaced there.

use super::channel::{data, kernel, new_id};
use super::printing::cell_of;
use super::{Bundle, Show};
use std::panic::Location;

/// Shows a value in its cell, at once and any number of times per cell; what is returned replaces it later. What a
/// thread shows that goes on behind its cell appears in that cell.
///
/// This needs the lorascope kernel. The stock kernel shows rich output only when the cell has ended, and of several the
/// last one.
///
/// # Examples
/// ```
/// use lorascope::display::{Text, show};
///
/// let panel = show(&Text::new("step 1"));
/// panel.update(&Text::new("step 2")); // in its place, from any cell
/// ```
#[track_caller]
pub fn show<T: Show + ?Sized>(value: &T) -> Displayed {
    Displayed::new("show", &value.show())
}

/// What [`show`] put into a cell. It shows as nothing itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Displayed {
    id: String,
}

impl Displayed {
    /// Shows something new in the cell that calls this, or in the one that runs; the kind is the beginning of its id.
    #[track_caller]
    pub(crate) fn new(kind: &str, bundle: &Bundle) -> Self {
        let id = new_id(kind);
        match kernel() {
            Some(kernel) => kernel.display(&id, data(bundle), cell_of(Location::caller().file())),
            None => bundle.print(),
        }
        Self { id }
    }

    /// Shows another value in its place, at most twice a second: of those that come faster the last one is shown.
    /// In the stock kernel it is shown when the cell has ended, if it is the last one.
    pub fn update<T: Show + ?Sized>(&self, value: &T) {
        self.replace(&value.show());
    }

    pub(crate) fn replace(&self, bundle: &Bundle) {
        match kernel() {
            Some(kernel) => kernel.update(&self.id, data(bundle)),
            None => bundle.print(),
        }
    }

    /// Shows the last state at once, where a kernel shows states as they come.
    pub(crate) fn finish(&self, bundle: &Bundle) {
        if let Some(kernel) = kernel() {
            kernel.finish(&self.id, &data(bundle));
        }
    }
}

/// Nothing: it was shown before.
impl Show for Displayed {
    fn show(&self) -> Bundle {
        ().show()
    }
}
