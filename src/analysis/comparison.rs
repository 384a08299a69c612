//! Several runs compared.

use crate::display::{Align, Bundle, Show, Table, brief, thousands};
use crate::error::{Error, Result};
use crate::plot::{Figure, Scale, Series, lines};
use crate::run::Run;
use crate::spectrum::Spectra;
use crate::train::StepReport;

/// Several runs compared: curves, spectra and final numbers.
#[derive(Clone)]
pub struct RunComparison {
    runs: Vec<Compared>,
}

#[derive(Debug, Clone)]
struct Compared {
    name: String,
    steps: Vec<StepReport>,
    lr: f64,
    rank: usize,
    parameters: usize,
    effective_rank: f64,
    norm: f64,
    /// √(mean over the modules of σ_k²), for k from 1.
    spectrum: Vec<f64>,
}

/// Compares runs: their curves and spectra over each other, and a table.
///
/// # Errors
/// When no run is given, or an adapter holds a value that is not finite.
pub fn compare_runs(runs: &[&Run]) -> Result<RunComparison> {
    if runs.is_empty() {
        return Err(Error::input("no runs to compare").help("compare_runs(&[&a, &b])"));
    }
    let compared = runs.iter().map(|run| {
        let adapters = run.adapters();
        let spectra = run.spectra()?;
        let ranks: Vec<f64> = spectra.iter().map(|s| s.effective_rank()).collect();
        let norm = spectra.iter().map(|s| s.frobenius_norm().powi(2)).sum::<f64>().sqrt();
        Ok(Compared {
            name: run.name().to_string(),
            steps: run.history().steps().to_vec(),
            lr: run.settings().lr,
            rank: run.config().lora.rank,
            parameters: adapters.parameters(),
            effective_rank: ranks.iter().sum::<f64>() / ranks.len().max(1) as f64,
            norm,
            spectrum: mean_spectrum(&spectra),
        })
    });
    Ok(RunComparison { runs: compared.collect::<Result<_>>()? })
}

/// √(mean over the modules of σ_k²), for k from 1.
fn mean_spectrum(spectra: &Spectra) -> Vec<f64> {
    let longest = spectra.iter().map(|s| s.singular_values.len()).max().unwrap_or(0);
    let square =
        |k: usize| spectra.iter().filter_map(|s| Some(s.singular_values.get(k)?.powi(2))).sum::<f64>();
    (0..longest).map(|k| (square(k) / spectra.len().max(1) as f64).sqrt()).collect()
}

impl RunComparison {
    /// The spectra over each other: √(mean over the modules of σ_k²) of scale·B·A over k.
    ///
    /// # Errors
    /// When all singular values are zero.
    pub fn spectra_plot(&self) -> Result<Figure> {
        let series: Vec<Series> = self
            .runs
            .iter()
            .enumerate()
            .map(|(colour, run)| {
                let points = (1..).map(f64::from).zip(run.spectrum.iter().copied());
                Series::line(run.name.as_str(), points).coloured(colour)
            })
            .collect();
        lines("Singular values of B·A, mean over the modules", "k", "σ_k", &series, Scale::Log)
    }

    /// The loss curves over each other, with the evaluations; a run has the colour that it has in
    /// [`spectra_plot`](Self::spectra_plot).
    ///
    /// # Errors
    /// When no run has done a step.
    pub fn plot(&self) -> Result<Figure> {
        let series: Vec<Series> = self
            .runs
            .iter()
            .enumerate()
            .filter(|(_, run)| !run.steps.is_empty())
            .flat_map(|(colour, run)| {
                let points = run.steps.iter().map(|step| (step.step as f64, step.loss));
                let evaluated = run.steps.iter().filter_map(|step| Some((step.step as f64, step.eval_loss?)));
                let evaluated = Series::marks(format!("{}, evaluation", run.name), evaluated);
                let all = [Series::smoothed(run.name.as_str(), points, 8.0), evaluated];
                all.into_iter().filter(|one| !one.points.is_empty()).map(move |one| one.coloured(colour))
            })
            .collect();
        lines("Loss", "step", "cross-entropy (nats per token)", &series, Scale::Linear)
    }
}

brief!(RunComparison);

impl Show for RunComparison {
    fn show(&self) -> Bundle {
        let columns = [
            ("run", Align::Left),
            ("steps", Align::Right),
            ("loss", Align::Right),
            ("evaluation", Align::Right),
            ("lr", Align::Right),
            ("rank", Align::Right),
            ("trained", Align::Right),
            ("effective rank", Align::Right),
            ("‖ΔW‖", Align::Right),
        ];
        let mut table = Table::new(columns);
        for run in &self.runs {
            let last = &run.steps[run.steps.len().saturating_sub(8)..];
            let loss = last.iter().map(|step| step.loss).sum::<f64>() / last.len() as f64;
            let eval = run.steps.iter().rev().find_map(|step| step.eval_loss);
            table.row([
                run.name.clone(),
                run.steps.len().to_string(),
                if last.is_empty() { String::new() } else { format!("{loss:.4}") },
                eval.map_or(String::new(), |loss| format!("{loss:.4}")),
                format!("{:.1e}", run.lr),
                run.rank.to_string(),
                thousands(run.parameters as u64),
                format!("{:.2}", run.effective_rank),
                format!("{:.3}", run.norm),
            ]);
        }
        let table =
            table.caption("loss: mean of the latest eight steps; effective rank: mean over the modules");
        match (self.plot(), self.spectra_plot()) {
            (Ok(loss), Ok(spectra)) => (loss, spectra, table).show(),
            (Ok(figure), Err(_)) | (Err(_), Ok(figure)) => (figure, table).show(),
            (Err(_), Err(_)) => table.show(),
        }
    }
}
