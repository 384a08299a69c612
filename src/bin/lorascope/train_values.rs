//! Values of the options of `lorascope train`.

use lorascope::run::RunFile;
use lorascope::train::{Schedule, Shape};
use std::str::FromStr;

/// The step to go back to.
#[derive(Debug, Clone, Copy)]
pub enum Back {
    Step(u64),
    Best,
}

impl FromStr for Back {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            step => {
                step.parse().map(Self::Step).map_err(|_| "give the number of a step, or best".to_string())
            }
        }
    }
}

/// A learning-rate schedule given on the command line.
#[derive(Debug, Clone, Copy)]
pub enum Course {
    File,
    To(Shape, Option<u64>),
}

impl FromStr for Course {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "say constant, linear:TOTAL, cosine:TOTAL, wsd:TOTAL or file".to_string();
        let (name, total) = match text.split_once(':') {
            Some((name, total)) => (name, Some(total.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (name, total) {
            ("file", None) => Ok(Self::File),
            ("constant", None) => Ok(Self::To(Shape::Constant, None)),
            ("linear", Some(_)) => Ok(Self::To(Shape::Linear, total)),
            ("cosine", Some(_)) => Ok(Self::To(Shape::Cosine, total)),
            ("wsd", Some(_)) => Ok(Self::To(Shape::Wsd { decay: None }, total)),
            _ => Err(wrong()),
        }
    }
}

impl Course {
    /// Returns the schedule; one given on the command line gets this warm-up.
    pub fn schedule(self, file: &RunFile, warmup: u64) -> Schedule {
        match self {
            Self::File => file.config.schedule.clone(),
            Self::To(shape, total) => Schedule { warmup, shape, total, last: None },
        }
    }
}
