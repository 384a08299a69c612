//! Another way to go on from here, and runs beside each other.

use super::batches::Batches;
use super::config::RunConfig;
use super::dated;
use super::folder::Folder;
use super::history::StepReport;
use super::identity::{Identity, Parent, rows_of};
use super::journal::{Change, Journal};
use super::run::{NewRun, Run};
use super::segments::Segments;
use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table, brief};
use crate::error::{Error, Result};
use crate::plot::{Figure, Scale, Series, lines};
use crate::spectrum::Spectra;
use std::sync::Arc;

impl Run {
    /// A second run that goes on from this one as it is now, over the same frozen weights, in
    /// `runs/NAME`. What `change` changes in the config holds from here on; what came before, and the
    /// way back to it, is the same in both. Evaluations on other rows say nothing of these: where the rows to
    /// evaluate on are changed, the fork's history begins without them, and the best is counted anew.
    ///
    /// # Errors
    /// When a run of this name exists, or when something is changed that cannot change on the way: the
    /// rank, the seed, the data, the kind of optimiser, what becomes of rows that are refused. A fork of a run whose history cannot be read is no fork.
    pub fn fork(&self, name: &str, change: impl FnOnce(&mut RunConfig)) -> Result<Self> {
        let path = Self::path_of(name)?;
        let (learned, mut place, journal, mut history) = {
            let public = self.0.shared.read();
            let journal = public.journal.until(public.place.step);
            (public.learned.clone(), public.place, journal, public.history.clone())
        };
        let original = self.0.config.clone();
        let settings = journal.settings(&original, place.step + 1);
        let now = RunConfig {
            lr: settings.lr,
            schedule: settings.schedule.clone(),
            batch: settings.batch,
            micro_batch: settings.micro_batch,
            clip: settings.clip,
            optimizer: settings.optimizer.clone(),
            eval_every: settings.eval_every,
            patience: settings.patience,
            spectra_every: settings.spectra_every,
            ..original.clone()
        };
        let mut wanted = now.clone();
        change(&mut wanted);
        wanted.check()?;
        Self::free(name, &path, wanted.existing)?;
        let journal = differences(&now, &wanted, journal, place.step)?;
        let mut identity = Folder::identity(&self.0.folder)?;
        let eval = match same_rows(now.eval.as_ref(), wanted.eval.as_ref())? {
            true => self.0.eval.clone(),
            false => {
                place.eval_loss = None;
                history.iter_mut().for_each(|step| step.eval_loss = None);
                let how = self.0.segments.preparing();
                let data = wanted.eval.as_ref();
                let trained = self.0.segments.get(self.settings().segment).ok();
                let trained = trained.as_ref().map(|segment| &segment.data);
                let for_evaluation = |data| Batches::for_evaluation(data, trained, &self.0.model, how);
                let rows = data.map(for_evaluation).transpose()?;
                let found = data.zip(rows.as_ref()).map(|(data, rows)| rows_of(data, rows));
                identity.eval = found.transpose()?;
                rows.map(Arc::new)
            }
        };
        // What holds from the beginning stays as it was; what may differ at any time is taken over.
        let config = RunConfig {
            spike: wanted.spike,
            snapshots: wanted.snapshots.clone(),
            existing: wanted.existing,
            recompute: wanted.recompute,
            eval: wanted.eval,
            ..original
        };
        let mut identity = Identity { config: config.clone(), ..identity };
        identity.time = dated::time_of(&self.0.model);
        identity.parent = Some(Parent { run: self.0.folder.clone(), step: place.step });
        let segments =
            Segments::new(&self.0.model, &config, std::iter::once(&identity.rows).chain(journal.data()));
        for number in 0..=settings.segment {
            if let (Some(rows), Ok(segment)) = (segments.rows(number), self.0.segments.get(number)) {
                segments.fill(number, &rows, segment);
            }
        }
        let fresh = super::run::begun(&self.0.folder, &self.0.model, &config)?;
        let new = NewRun {
            identity,
            segments: Arc::new(segments),
            eval,
            fresh,
            learned,
            place,
            journal,
            history,
            notes: Vec::new(),
            about_rows: Vec::new(),
        };
        Self::found(name, path, &self.0.model, config, new)
    }
}

/// Whether these are the same rows, found in the same way.
fn same_rows(a: Option<&Dataset>, b: Option<&Dataset>) -> Result<bool> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => a.recipe()? == b.recipe()?,
        (a, b) => a.is_none() && b.is_none(),
    })
}

/// The changes that lead from one config to the other.
fn differences(now: &RunConfig, wanted: &RunConfig, journal: Journal, at: u64) -> Result<Journal> {
    let fixed =
        |name: &str, help: &str| Err(Error::input(format!("a fork cannot have another {name}")).help(help));
    if now.lora != wanted.lora || now.adaptation != wanted.adaptation {
        return fixed(
            "rank or other adapters",
            "the adapters go on as they are: begin a new run from them with init_from",
        );
    }
    if now.training() != wanted.training() {
        return fixed(
            "choice of what is trained on",
            "begin a new run: Run::new(name, &model, &data, config)",
        );
    }
    if now.faults != wanted.faults {
        return fixed(
            "way with rows that are refused",
            "it goes on with the rows that this run has: begin a new run, Run::new(name, &model, &data, config)",
        );
    }
    now.optimizer.goes_on_as(&wanted.optimizer)?;
    if now.seed != wanted.seed || now.context != wanted.context || now.init_from != wanted.init_from {
        return fixed("seed, context or beginning", "begin a new run: Run::new(name, &model, &data, config)");
    }
    let mut changes = Vec::new();
    if now.schedule != wanted.schedule {
        changes.push(Change::Schedule(wanted.schedule.clone()));
    }
    if now.lr.to_bits() != wanted.lr.to_bits() {
        changes.push(Change::Lr(wanted.lr));
    }
    if now.batch != wanted.batch {
        changes.push(Change::Batch(wanted.batch));
    }
    if now.micro_batch != wanted.micro_batch {
        changes.push(Change::MicroBatch(wanted.micro_batch));
    }
    if now.clip != wanted.clip {
        changes.push(Change::Clip(wanted.clip));
    }
    if now.optimizer != wanted.optimizer {
        changes.push(Change::Optimizer(wanted.optimizer.clone()));
    }
    if now.eval_every != wanted.eval_every {
        changes.push(Change::EvalEvery(wanted.eval_every));
    }
    if now.patience != wanted.patience {
        changes.push(Change::Patience(wanted.patience));
    }
    if now.spectra_every != wanted.spectra_every {
        changes.push(Change::SpectraEvery(wanted.spectra_every));
    }
    Ok(changes.into_iter().fold(journal, |journal, change| journal.with(at, change)))
}

/// Runs beside each other.
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

/// Lays the curves and spectra of runs over each other.
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
                crate::display::thousands(run.parameters as u64),
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
