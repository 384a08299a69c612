//! One budget of parameters: a high rank on one kind of module, or low ranks on many.

use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table, brief, thousands};
use crate::error::{Error, Result};
use crate::lora::{Biases, Init, LoraConfig, TargetModules};
use crate::model::Model;
use crate::plot::{Figure, bars};
use crate::run::Run;
use crate::train::{Adaptation, RunConfig};
use polars::prelude::{DataFrame, df};

/// One way to spend the budget.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetPoint {
    /// The run that was trained this way.
    pub run: String,
    /// The kinds of weights that have adapters.
    pub targets: Vec<String>,
    /// Their rank.
    pub rank: usize,
    /// Numbers that are trained.
    pub parameters: usize,
    /// Mean loss of the latest eight steps, in nats per token.
    pub training: f64,
    /// The loss on the held-out rows, in nats per token.
    pub loss: f64,
}

/// Ways to spend about the same number of parameters, each trained briefly.
#[derive(Clone, PartialEq)]
pub struct SpreadRanks {
    /// In the order in which they were asked for.
    pub ways: Vec<BudgetPoint>,
}

/// Trains one run of `steps` steps for each set of target modules, named `NAME-1`, `NAME-2`, …, and
/// evaluates all on the held-out rows. The first set has the config's rank; the others have the rank at
/// which the numbers in A and B, Σ r·(in + out), come nearest to its own, at least 1 (the question of Hu et
/// al. 2021, section 7.1, table 5); magnitudes and weights that are trained whole are not counted there.
///
/// # Errors
/// Before anything is trained: when fewer than two sets are given, a set fits no layer or needs a rank that
/// a layer cannot hold, a run of such a name exists (unless the config says
/// [`overwrite`](RunConfig::overwrite)), all weights are to be trained, or ranks are given by pattern. Later:
/// when a step fails.
///
/// # Examples
/// ```no_run
/// use lorascope::prelude::*;
///
/// let model = Model::open("models/smollm2-135m.gguf")?;
/// let (rows, test) = Dataset::open("datasets/school_math.jsonl")?.split(0.98, 42)?;
/// let config = RunConfig::default().rank(8).batch(4);
/// let sets: [&[&str]; 3] = [&["q_proj"], &["q_proj", "v_proj"], &["q_proj", "k_proj", "v_proj", "o_proj"]];
/// spread_ranks("spread", &model, &rows, &test, &config, 20, &sets)?;
/// # Ok::<(), lorascope::error::Error>(())
/// ```
pub fn spread_ranks(
    name: &str,
    model: &Model,
    data: &Dataset,
    test: &Dataset,
    config: &RunConfig,
    steps: u64,
    sets: &[&[&str]],
) -> Result<SpreadRanks> {
    if sets.len() < 2 || steps == 0 {
        return Err(Error::input(format!("{} sets of modules, {steps} steps", sets.len()))
            .help("give two sets or more, such as [&[\"q_proj\"], &[\"q_proj\", \"v_proj\"]], and steps"));
    }
    if config.adaptation != Adaptation::Lora || config.init_from.is_some() {
        return Err(Error::input("this config trains all weights, or starts from an adapter on disk")
            .help("the sets of modules decide what is trained here: leave out full() and init_from()"));
    }
    if !config.lora.rank_pattern.is_empty() || !config.lora.alpha_pattern.is_empty() {
        return Err(Error::input("a config with ranks or alphas by pattern")
            .help("each way has one rank here: leave out rank_pattern and alpha_pattern"));
    }
    // Nothing is trained before all ranks and names are known to be possible.
    let mut planned: Vec<(String, RunConfig)> = Vec::new();
    let mut budget = 0;
    for (number, set) in sets.iter().enumerate() {
        let mut config = config.clone();
        config.lora.target_modules = TargetModules::Named(set.iter().map(|name| name.to_string()).collect());
        let of_one = factors(model, &config, 1)?;
        if number == 0 {
            budget = of_one * config.lora.rank;
        } else {
            // An orthogonal beginning takes even ranks alone.
            let step = if config.lora.init == Init::Orthogonal { 2 } else { 1 };
            let steps = (budget as f64 / (of_one * step) as f64).round() as usize;
            config = config.rank(steps.max(1) * step);
        }
        factors(model, &config, config.lora.rank)?;
        let name = format!("{name}-{}", number + 1);
        Run::check_free(&name, config.existing)?;
        planned.push((name, config));
    }
    let mut ways = Vec::new();
    for ((name, config), set) in planned.into_iter().zip(sets) {
        let run = Run::new(&name, model, data, config)?;
        run.steps(steps)?;
        let adapters = run.adapters();
        let history = run.history();
        let last = &history.steps()[history.len().saturating_sub(8)..];
        ways.push(BudgetPoint {
            run: run.name().to_string(),
            targets: set.iter().map(|name| name.to_string()).collect(),
            rank: run.config().lora.rank,
            parameters: adapters.parameters(),
            training: last.iter().map(|step| step.loss).sum::<f64>() / last.len().max(1) as f64,
            loss: run.evaluate_with(&adapters, test)?.loss,
        });
        run.close()?;
    }
    Ok(SpreadRanks { ways })
}

/// Numbers in A and B of all layers at this rank.
///
/// # Errors
/// When the modules fit no layer, or a layer cannot hold the rank.
fn factors(model: &Model, config: &RunConfig, rank: usize) -> Result<usize> {
    let config = LoraConfig {
        rank,
        init: Init::Kaiming,
        dora: false,
        bias: Biases::None,
        modules_to_save: Vec::new(),
        ..config.lora.clone()
    };
    Ok(model.new_adapters(&config, 0)?.parameters())
}

impl BudgetPoint {
    fn label(&self) -> String {
        format!("r {} on {}", self.rank, self.targets.join(", "))
    }
}

impl SpreadRanks {
    /// One row for each way: run, targets, rank, parameters, training, loss.
    ///
    /// # Errors
    /// When polars fails.
    pub fn frame(&self) -> Result<DataFrame> {
        let w = &self.ways;
        Ok(df!(
            "run" => w.iter().map(|w| w.run.as_str()).collect::<Vec<_>>(),
            "targets" => w.iter().map(|w| w.targets.join(" ")).collect::<Vec<_>>(),
            "rank" => w.iter().map(|w| w.rank as u32).collect::<Vec<_>>(),
            "parameters" => w.iter().map(|w| w.parameters as u64).collect::<Vec<_>>(),
            "training" => w.iter().map(|w| w.training).collect::<Vec<_>>(),
            "loss" => w.iter().map(|w| w.loss).collect::<Vec<_>>(),
        )?)
    }

    /// The losses on held-out rows as bars.
    ///
    /// # Errors
    /// When no loss is finite.
    pub fn plot(&self) -> Result<Figure> {
        let amounts: Vec<(String, f64)> = self.ways.iter().map(|way| (way.label(), way.loss)).collect();
        bars(
            "The same parameters, spent in other ways",
            "cross-entropy on held-out rows (nats per token)",
            &amounts,
        )
    }
}

brief!(SpreadRanks);

impl Show for SpreadRanks {
    fn show(&self) -> Bundle {
        let columns = [
            ("targets", Align::Left),
            ("rank", Align::Right),
            ("numbers", Align::Right),
            ("loss, training", Align::Right),
            ("loss, held out", Align::Right),
            ("run", Align::Left),
        ];
        let mut table = Table::new(columns);
        for way in &self.ways {
            table.row([
                way.targets.join(", "),
                way.rank.to_string(),
                thousands(way.parameters as u64),
                format!("{:.4}", way.training),
                format!("{:.4}", way.loss),
                way.run.clone(),
            ]);
        }
        match self.plot() {
            Ok(figure) => (figure, table).show(),
            Err(_) => table.show(),
        }
    }
}
