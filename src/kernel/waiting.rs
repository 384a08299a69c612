//! What a cell shows that waits for the kernel to be prepared.

use crate::evaluate::{Shared, Stage};
use crate::messages::Iopub;
use jupyter_protocol::JupyterMessage;
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(250);
const EVERY: Duration = Duration::from_millis(1000);

/// Shows in the first cell that waits how far the preparation is; the thread ends with it.
pub fn show(
    shared: Arc<Shared>,
    iopub: Iopub,
    first: impl Fn() -> Option<JupyterMessage> + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let id = format!("lorascope-preparing-{}", std::process::id());
        let begun = Instant::now();
        let mut shown: Option<(JupyterMessage, Instant)> = None;
        loop {
            let (stage, since) = shared.stage();
            let over = matches!(stage, Stage::Ready | Stage::Failed(_));
            match &mut shown {
                None if !over => {
                    if let Some(request) = first() {
                        iopub.display(bundle(&stage, since, begun.elapsed()), &id, Some(&request));
                        shown = Some((request, Instant::now()));
                    }
                }
                Some((request, last)) if over || last.elapsed() >= EVERY => {
                    iopub.update(bundle(&stage, since, begun.elapsed()), &id, Some(request));
                    *last = Instant::now();
                }
                _ => {}
            }
            if over {
                return;
            }
            std::thread::sleep(LOOK);
        }
    })
}

/// What is shown of a stage that has lasted so long, after so much in all.
fn bundle(stage: &Stage, since: Duration, all: Duration) -> Value {
    let (text, part) = match stage {
        Stage::Building(None) => {
            ("preparing: lorascope is built once, in about a quarter of an hour".to_string(), 0.0)
        }
        Stage::Building(Some(progress)) => {
            let part = progress.done as f64 / progress.total.max(1) as f64;
            let left = match progress.done {
                0 => String::new(),
                done => {
                    let left =
                        since.as_secs_f64() * (progress.total.saturating_sub(done)) as f64 / done as f64;
                    format!(", about {} left", duration(Duration::from_secs_f64(left.min(1e7))))
                }
            };
            (
                format!("preparing: building lorascope, crate {} of {}{left}", progress.done, progress.total),
                part,
            )
        }
        Stage::Starting => {
            (format!("preparing: starting, {} of about 6 s", duration(since)), since.as_secs_f64() / 6.0)
        }
        Stage::Ready => (format!("prepared in {}", duration(all)), 1.0),
        Stage::Failed(_) => (format!("the preparation failed after {}", duration(all)), 1.0),
    };
    let bar = match stage {
        Stage::Ready | Stage::Failed(_) => String::new(),
        _ => format!(
            "<div style=\"width:24em;height:4px;background:rgba(128,128,128,.3)\"><div style=\"width:{:.1}%;height:4px;\
             background:#3b82f6\"></div></div>",
            100.0 * part.min(1.0)
        ),
    };
    json!({"text/plain": text, "text/html": format!("<div style=\"opacity:.75\">{text}{bar}</div>")})
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BuildProgress;

    #[test]
    fn a_build_says_how_far_it_is_and_how_long_it_takes() {
        let stage = Stage::Building(Some(BuildProgress { done: 100, total: 400 }));
        let shown = bundle(&stage, Duration::from_secs(60), Duration::from_secs(61));
        assert_eq!(
            shown["text/plain"],
            "preparing: building lorascope, crate 100 of 400, about 3 min 0 s left"
        );
        assert!(shown["text/html"].as_str().unwrap().contains("width:25.0%"));
        let ready = bundle(&Stage::Ready, Duration::ZERO, Duration::from_secs(6));
        assert_eq!(ready["text/plain"], "prepared in 6 s");
    }
}
