//! What a cell shows that waits for the kernel to be prepared.

use crate::evaluate::{Shared, Stage};
use crate::messages::Iopub;
use jupyter_protocol::{ClearOutput, JupyterMessage};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(250);
/// How long the start takes on two cores.
const USUAL: Duration = Duration::from_secs(8);
const EVERY: Duration = Duration::from_millis(1000);

/// Shows in the first cell that waits how far the preparation is, and takes that away at its end; the thread ends
/// with it.
pub fn show(
    shared: Arc<Shared>,
    iopub: Iopub,
    first: impl Fn() -> Option<JupyterMessage> + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let id = format!("lorascope-preparing-{}", std::process::id());
        let mut shown: Option<(JupyterMessage, Instant)> = None;
        loop {
            let (stage, since) = shared.stage();
            let over = matches!(stage, Stage::Ready | Stage::Failed(_));
            match &mut shown {
                None if !over => {
                    if let Some(request) = first() {
                        iopub.display(bundle(&stage, since), &id, Some(&request));
                        shown = Some((request, Instant::now()));
                    }
                }
                Some((request, _)) if over => iopub.send(ClearOutput { wait: false }, Some(request)),
                Some((request, last)) if last.elapsed() >= EVERY => {
                    iopub.update(bundle(&stage, since), &id, Some(request));
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

/// What is shown of a stage that has lasted so long.
fn bundle(stage: &Stage, since: Duration) -> Value {
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
        _ if since <= USUAL => (
            format!("preparing: {} of about {}", duration(since), duration(USUAL)),
            since.div_duration_f64(USUAL),
        ),
        _ => (
            format!(
                "preparing: {} so far, usually {}: the machine is busy",
                duration(since),
                duration(USUAL)
            ),
            1.0,
        ),
    };
    let bar = format!(
        "<div style=\"width:24em;height:4px;background:rgba(128,128,128,.3)\"><div style=\"width:{:.1}%;height:4px;\
         background:#3b82f6\"></div></div>",
        100.0 * part.min(1.0)
    );
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
        let shown = bundle(&stage, Duration::from_secs(60));
        let text = "preparing: building lorascope, crate 100 of 400, about 3 min 0 s left";
        assert_eq!(shown["text/plain"], text);
        assert!(shown["text/html"].as_str().unwrap().contains("width:25.0%"));
        assert_eq!(
            bundle(&Stage::Starting, Duration::from_secs(3))["text/plain"],
            "preparing: 3 s of about 8 s"
        );
        let late = bundle(&Stage::Starting, Duration::from_secs(33));
        assert_eq!(late["text/plain"], "preparing: 33 s so far, usually 8 s: the machine is busy");
        assert!(late["text/html"].as_str().unwrap().contains("width:100.0%"));
    }
}
