//! What cells print, in the lorascope kernel: in order with what they show, and in the cell whose code it is.
//!
//! The kernel imports the macros below as `print!`, `println!`, `eprint!` and `eprintln!` of the cells. It compiles each
//! cell from a file in a folder with the cell's number, so `file!()` says to which cell a thread belongs.

use super::channel::{kernel, on_the_thread_of_cells};
use std::fmt::Arguments;
use std::io::Write as _;

/// Where a line is printed to.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    Output,
    Errors,
}

/// Prints for the code of a cell, which was compiled from this file.
#[doc(hidden)]
pub fn print_in_cell(file: &str, to: Printed, text: Arguments<'_>) {
    let Some(kernel) = kernel() else {
        return match to {
            Printed::Output => print!("{text}"),
            Printed::Errors => eprint!("{text}"),
        };
    };
    // Before a lock: a value may show something while it is written.
    let text = text.to_string();
    match to {
        // The pipe of the standard output is the running cell's; what another thread prints may be of an earlier one.
        Printed::Output if on_the_thread_of_cells() => {
            let mut out = std::io::stdout().lock();
            kernel.before_print(&mut out);
            // A kernel that went away is no reason to fail a computation.
            let _ = out.write_all(text.as_bytes());
        }
        Printed::Output => kernel.stream("stdout", &text, cell_of(file)),
        Printed::Errors => kernel.stream("stderr", &text, cell_of(file)),
    }
}

/// The number of the cell that was compiled from this file: `…/cell/17/lib.rs`.
pub(super) fn cell_of(file: &str) -> Option<u64> {
    let mut parts = file.rsplit(['/', '\\']);
    let number = (parts.next()? == "lib.rs").then(|| parts.next())??;
    (parts.next()? == "cell").then(|| number.parse().ok())?
}

#[doc(hidden)]
#[macro_export]
macro_rules! cell_print {
    ($($text:tt)*) => {
        $crate::display::print_in_cell(file!(), $crate::display::Printed::Output, format_args!($($text)*))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! cell_println {
    () => {
        $crate::display::print_in_cell(file!(), $crate::display::Printed::Output, format_args!("\n"))
    };
    ($($text:tt)*) => {
        $crate::display::print_in_cell(
            file!(),
            $crate::display::Printed::Output,
            format_args!("{}\n", format_args!($($text)*)),
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! cell_eprint {
    ($($text:tt)*) => {
        $crate::display::print_in_cell(file!(), $crate::display::Printed::Errors, format_args!($($text)*))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! cell_eprintln {
    () => {
        $crate::display::print_in_cell(file!(), $crate::display::Printed::Errors, format_args!("\n"))
    };
    ($($text:tt)*) => {
        $crate::display::print_in_cell(
            file!(),
            $crate::display::Printed::Errors,
            format_args!("{}\n", format_args!($($text)*)),
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_cell_is_in_the_path_of_its_file() {
        assert_eq!(cell_of("/cache/kernels/7/cell/17/lib.rs"), Some(17));
        for other in [
            "",
            "lib.rs",
            "src/lib.rs",
            "/a/cell/x/lib.rs",
            "/a/cell/3/main.rs",
            "/a/bell/3/lib.rs",
            "3/lib.rs",
        ] {
            assert_eq!(cell_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_macros_take_what_those_of_the_standard_library_take() {
        let value = 3;
        cell_print!("{value} {:>4}", "a");
        cell_println!();
        cell_println!("{value:?} {}", value + 1,);
        cell_eprint!("");
        cell_eprintln!("{named}", named = 5);
    }
}
