//! The variables of a notebook between its cells, in the lorascope kernel.
//!
//! evcxr writes this store into each cell as source code, and rustc then compiles its hash map with each cell: two
//! thirds of the code of a small cell. The kernel's stand-in for cargo (src/kernel/code.rs) names this one in its place,
//! which is compiled once. A process uses one of the two for all its cells.

use super::printing::{Printed, print_in_cell};
use std::alloc::Layout;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Arguments;
use std::sync::Arc;

/// The line by which evcxr hears that a variable is gone.
const CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";

/// The values of the variables by name.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct VariableStore {
    variables: HashMap<String, Box<dyn Any>>,
}

impl VariableStore {
    pub fn put_variable<T: 'static>(&mut self, name: &str, value: T) {
        self.put(name, Box::new(value));
    }

    /// Whether the variable can be taken: false, and said, if its type was declared anew since. rustc gives a type that
    /// is declared with other types in its fields the same identity, so the size is compared as well.
    pub fn check_variable<T: 'static>(&mut self, name: &str) -> bool {
        self.check(name, TypeId::of::<T>(), Layout::new::<T>())
    }

    /// Takes a variable, which [`check_variable`](Self::check_variable) found.
    pub fn take_variable<T: 'static>(&mut self, name: &str) -> T {
        match self.take(name).downcast() {
            Ok(value) => *value,
            Err(_) => failed(name, "has another type"),
        }
    }

    /// What lies under a name; it is created first if need be.
    pub fn lazy_arc<T: 'static, F: FnOnce() -> T>(&mut self, name: &str, create: F) -> Arc<T> {
        let entry = self.variables.entry(name.to_owned());
        match entry.or_insert_with(|| Box::new(Arc::new(create()))).downcast_ref::<Arc<T>>() {
            Some(value) => value.clone(),
            None => failed(name, "has another type"),
        }
    }

    fn put(&mut self, name: &str, value: Box<dyn Any>) {
        self.variables.insert(name.to_owned(), value);
    }

    fn check(&self, name: &str, wanted: TypeId, layout: Layout) -> bool {
        let is_wanted = |value: &dyn Any| value.type_id() == wanted && Layout::for_value(value) == layout;
        let same = self.variables.get(name).is_none_or(|value| is_wanted(value.as_ref()));
        if !same {
            eprintln!("The type of the variable {name} was redefined, so was lost.");
            println!("{CHANGED_TYPE}{name}");
        }
        same
    }

    fn take(&mut self, name: &str) -> Box<dyn Any> {
        self.variables.remove(name).unwrap_or_else(|| failed(name, "is missing"))
    }
}

/// A defect of the kernel or of evcxr: a cell takes only what it checked.
#[cold]
fn failed(name: &str, what: &str) -> ! {
    std::panic::panic_any(format!("the variable {name} {what}"))
}

/// The store of a new process; evcxr hands it from cell to cell.
#[doc(hidden)]
pub fn create_variable_store() -> *mut VariableStore {
    Box::into_raw(Box::default())
}

/// Tells the kernel of the error that ended the cell compiled from `file`; `token` begins the lines meant for it.
#[doc(hidden)]
pub fn tell_error(file: &str, token: &str, error: Arguments<'_>) {
    let line = format!("{token} error {:?}\n", error.to_string());
    print_in_cell(file, Printed::Output, format_args!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_back_as_they_were_put() {
        let mut store = VariableStore::default();
        store.put_variable("a", vec![1, 2]);
        store.put_variable("a", String::from("b"));
        assert!(store.check_variable::<String>("a") && store.check_variable::<u8>("unknown"));
        assert!(!store.check_variable::<Vec<i32>>("a"));
        assert_eq!(store.take_variable::<String>("a"), "b");
        let first = store.lazy_arc("runtime", || 7);
        assert_eq!((*first, *store.lazy_arc("runtime", || 8)), (7, 7));
    }

    #[test]
    fn a_type_of_another_size_is_another_type() {
        let mut store = VariableStore::default();
        store.put_variable("a", 5_u64);
        assert!(store.check("a", TypeId::of::<u64>(), Layout::new::<u64>()));
        assert!(!store.check("a", TypeId::of::<u64>(), Layout::new::<String>()));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let taken = std::panic::catch_unwind(|| VariableStore::default().take_variable::<u8>("rows"));
        assert_eq!(*taken.unwrap_err().downcast::<String>().unwrap(), "the variable rows is missing");
    }
}
