//! How plain values are shown in a notebook: results, options, numbers, texts, columns, tensors.

use super::{Align, Bundle, Show, Table, Text, counted, escape, neutral, thousands};
use std::fmt::{Debug, Display};

/// The advice when an error is shown where a value was expected.
const ADD: &str = "add `?` to the call: the cell then stops at an error, and otherwise has the value";
/// Items of a list that are shown: of a longer one so many less its end.
const LIST: usize = 60;
/// The last items of a long list.
const END: usize = 10;

/// An error as a person sees it: its message in red, and below it what else to do.
pub(crate) fn failed(error: impl Display, help: &str) -> Bundle {
    let error = neutral(&error.to_string());
    let below = match help {
        "" => String::new(),
        help => format!("<div style=\"opacity:0.8\">{}</div>", escape(help)),
    };
    let html = format!(
        "<div style=\"max-width:60em\"><div dir=\"auto\" style=\"color:#e5534b;white-space:pre-wrap;\
         overflow-wrap:anywhere\"><b>error:</b> {}</div>{below}</div>",
        escape(&error)
    );
    let help = if help.is_empty() { String::new() } else { format!("\n{help}") };
    Bundle { html, text: format!("error: {error}{help}") }
}

/// Text in a fixed-width font, as it is.
fn fixed(text: String) -> Bundle {
    let html = format!("<pre style=\"margin:0;overflow-x:auto\">{}</pre>", escape(&text));
    Bundle { html, text: neutral(&text) }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self) -> Bundle {
        (**self).show()
    }
}

/// Nothing is shown.
impl Show for () {
    fn show(&self) -> Bundle {
        Bundle { html: String::new(), text: String::new() }
    }
}

/// The value, or the error in red with the way to it.
impl<T: Show, E: Display> Show for Result<T, E> {
    fn show(&self) -> Bundle {
        match self {
            Ok(value) => value.show(),
            Err(error) => failed(error, ADD),
        }
    }

    fn error(&self) -> Option<String> {
        self.as_ref().err().map(ToString::to_string)
    }
}

/// The value, or the word none.
impl<T: Show> Show for Option<T> {
    fn show(&self) -> Bundle {
        self.as_ref().map_or_else(|| Text::new("none").show(), Show::show)
    }
}

impl<T: Show> Show for [T] {
    fn show(&self) -> Bundle {
        T::show_all(self)
    }
}

impl<T: Show, const N: usize> Show for [T; N] {
    fn show(&self) -> Bundle {
        T::show_all(self)
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> Bundle {
        T::show_all(self)
    }
}

/// The items that a list of so many shows: all, or those of its two ends.
fn ends(count: usize) -> (usize, usize) {
    if count <= LIST { (count, count) } else { (LIST - END, count - END) }
}

/// Numbers as Rust writes them; of a long list its ends and its length.
fn list<T: Debug>(values: &[T]) -> Bundle {
    let (head, tail) = ends(values.len());
    let said = |part: &[T]| part.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ");
    if head == tail {
        return fixed(format!("[{}]", said(values)));
    }
    let count = thousands(values.len() as u64);
    fixed(format!("[{}, …, {}] ({count} in all)", said(&values[..head]), said(&values[tail..])))
}

macro_rules! show_plain {
    ($($kind:ty)+) => {
        $(impl Show for $kind {
            fn show(&self) -> Bundle {
                fixed(format!("{self:?}"))
            }

            fn show_all(values: &[Self]) -> Bundle {
                list(values)
            }
        })+
    };
}
show_plain!(bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64);

impl Show for str {
    fn show(&self) -> Bundle {
        Text::new(self).show()
    }
}

impl Show for String {
    fn show(&self) -> Bundle {
        self.as_str().show()
    }

    /// A table of them.
    fn show_all(values: &[Self]) -> Bundle {
        let mut table = Table::new([("", Align::Right), ("text", Align::Left)]);
        let (head, tail) = ends(values.len());
        let row = |at: usize| [at.to_string(), values[at].clone()];
        (0..head).for_each(|at| table.row(row(at)));
        if head < tail {
            table.row(["…", "…"]);
            (tail..values.len()).for_each(|at| table.row(row(at)));
        }
        table.caption(counted(values.len() as u64, "text")).show()
    }
}

impl Show for std::path::Path {
    fn show(&self) -> Bundle {
        Text::new(self.display().to_string()).show()
    }
}

impl Show for std::path::PathBuf {
    fn show(&self) -> Bundle {
        self.as_path().show()
    }
}

/// Its numbers, those of the edges where there are many, with its shape and its type.
impl Show for candle_core::Tensor {
    fn show(&self) -> Bundle {
        fixed(self.to_string())
    }
}

/// As a data frame of one column.
impl Show for polars::prelude::Column {
    fn show(&self) -> Bundle {
        match polars::frame::DataFrame::new(self.len(), vec![self.clone()]) {
            Ok(frame) => frame.show(),
            Err(error) => failed(crate::error::Error::from(error), ""),
        }
    }
}

/// As a data frame of one column.
impl Show for polars::prelude::Series {
    fn show(&self) -> Bundle {
        self.clone().into_frame().show()
    }
}

/// Says in one line what a value is that `{:?}` would fill screens with: the name of its type, and the first
/// line of what a notebook shows.
macro_rules! brief {
    ($($kind:ty),+) => {
        $(impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let text = $crate::display::Show::show(self).text;
                let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                write!(f, "{}({})", stringify!($kind), $crate::display::cut(line.trim(), 160))
            }
        })+
    };
}
pub(crate) use brief;
