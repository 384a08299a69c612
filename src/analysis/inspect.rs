//! Trained tensors, their gradients and moments: norms, histograms and tables.

use crate::display::{Align, Bundle, Show, Table, brief};
use crate::error::{Error, Result};
use crate::plot::Histogram;
use crate::run::Run;
use crate::run::state::shared::Held;
use crate::spectrum::ends_in;
use crate::train::step::Learned;
use candle_core::{DType, Device, Tensor};
use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series as Values};

/// The gradient of one trained tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// The tensor's name.
    pub name: String,
    /// √Σg²; `None` where there is no gradient: the tensor is frozen.
    pub norm: Option<f64>,
    /// The largest |g|.
    pub largest: f64,
    /// Numbers that are NaN or infinite.
    pub not_finite: usize,
}

impl Gradient {
    /// That of a sum over `tokens` tokens.
    fn of(name: &str, gradient: Option<&Tensor>, tokens: usize) -> Result<Self> {
        let Some(gradient) = gradient else {
            return Ok(Self { name: name.to_string(), norm: None, largest: 0.0, not_finite: 0 });
        };
        let scale = 1.0 / tokens.max(1) as f64;
        let values = numbers(gradient)?;
        let finite = values.iter().filter(|value| value.is_finite());
        Ok(Self {
            name: name.to_string(),
            norm: Some(values.iter().map(|g| g * g).sum::<f64>().sqrt() * scale),
            largest: finite.fold(0.0, |largest: f64, g| largest.max(g.abs())) * scale,
            not_finite: values.iter().filter(|value| !value.is_finite()).count(),
        })
    }

    /// What is wrong with it, in a word.
    pub fn remark(&self) -> &'static str {
        match self {
            Self { norm: None, .. } => "none",
            Self { not_finite: 1.., .. } => "not finite",
            Self { norm: Some(norm), .. } if *norm == 0.0 => "zero",
            _ => "",
        }
    }
}

/// The gradients of all trained tensors. Those with a remark are shown first.
#[derive(Clone, PartialEq)]
pub struct GradientTable(pub Vec<Gradient>);

impl GradientTable {
    /// One row for each tensor.
    ///
    /// # Errors
    /// When polars fails.
    pub fn frame(&self) -> Result<DataFrame> {
        let g = &self.0;
        let names: Vec<&str> = g.iter().map(|g| g.name.as_str()).collect();
        let columns = vec![
            Values::new("tensor".into(), names).into_column(),
            Values::new("norm".into(), g.iter().map(|g| g.norm).collect::<Vec<_>>()).into_column(),
            Values::new("largest".into(), g.iter().map(|g| g.largest).collect::<Vec<_>>()).into_column(),
            Values::new("not_finite".into(), g.iter().map(|g| g.not_finite as u64).collect::<Vec<_>>())
                .into_column(),
        ];
        Ok(DataFrame::new(g.len(), columns)?)
    }
}

brief!(GradientTable);

impl Show for GradientTable {
    fn show(&self) -> Bundle {
        const SHOWN: usize = 30;
        let odd = self.0.iter().filter(|g| !g.remark().is_empty()).count();
        let columns =
            [("tensor", Align::Left), ("norm", Align::Right), ("largest", Align::Right), ("", Align::Left)];
        let mut table = Table::new(columns).caption(format!(
            "gradients of {} tensors, {odd} of them zero, missing or not finite",
            self.0.len()
        ));
        let (first, rest): (Vec<_>, Vec<_>) = self.0.iter().partition(|g| !g.remark().is_empty());
        for g in first.into_iter().chain(rest).take(SHOWN) {
            let norm = g.norm.map_or(String::new(), |norm| format!("{norm:.3e}"));
            table.row([g.name.clone(), norm, format!("{:.3e}", g.largest), g.remark().to_string()]);
        }
        if self.0.len() > SHOWN {
            table.row(["…", "", "", "frame() has all"]);
        }
        table.show()
    }
}

/// One tensor in numbers, with a copy of its values.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// `lora_A`, its `gradient`, `mean` or `square`.
    pub name: String,
    /// A copy on the CPU, in f32.
    pub tensor: Tensor,
    /// √Σx².
    pub norm: f64,
    /// The largest |x|.
    pub largest: f64,
    /// How the values are spread; `None` where none is finite.
    pub histogram: Option<Histogram>,
}

impl Inspected {
    fn of(name: String, tensor: &Tensor, scale: f64) -> Result<Self> {
        let tensor = (tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)? * scale)?;
        let values = numbers(&tensor)?;
        Ok(Self {
            name,
            norm: values.iter().map(|x| x * x).sum::<f64>().sqrt(),
            largest: values.iter().fold(0.0, |largest: f64, x| largest.max(x.abs())),
            histogram: Histogram::of(&values),
            tensor,
        })
    }
}

/// The trained tensors of one module.
#[derive(Clone)]
pub struct Inspection {
    /// Its path.
    pub module: String,
    /// After which update.
    pub updates: u64,
    /// What is trained in it, each tensor followed by its gradient and its moments.
    pub tensors: Vec<Inspected>,
}

impl Inspection {
    fn of(module: &str, learned: &Learned, held: Option<&Held>) -> Result<Self> {
        let mut tensors = Vec::new();
        let inside =
            |name: &str| name == module || name.strip_prefix(module).is_some_and(|n| n.starts_with('.'));
        for (name, tensor) in learned.adapters.tensors().filter(|(name, _)| inside(name)) {
            let short = name.strip_prefix(module).map_or(name.as_str(), |n| n.trim_start_matches('.'));
            let short = if short.is_empty() { "weight" } else { short };
            tensors.push(Inspected::of(short.to_string(), tensor, 1.0)?);
            if let Some((gradient, held)) = held.and_then(|held| Some((held.gradients.get(&name)?, held))) {
                let scale = 1.0 / held.tokens.max(1) as f64;
                tensors.push(Inspected::of(format!("{short} gradient"), gradient, scale)?);
            }
            if let Some(moments) = learned.optimizer.moments().get(&name) {
                tensors.push(Inspected::of(format!("{short} mean"), &moments.mean, 1.0)?);
                if let Some(square) = &moments.square {
                    tensors.push(Inspected::of(format!("{short} square"), square, 1.0)?);
                }
            }
        }
        Ok(Self { module: module.to_string(), updates: learned.optimizer.updates(), tensors })
    }

    /// One of its tensors by name: `lora_A`, `lora_B gradient`.
    pub fn get(&self, name: &str) -> Option<&Inspected> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

brief!(Inspection);

impl Show for Inspection {
    fn show(&self) -> Bundle {
        let columns = [
            ("tensor", Align::Left),
            ("shape", Align::Left),
            ("norm", Align::Right),
            ("largest", Align::Right),
            ("spread", Align::Left),
        ];
        let mut table =
            Table::new(columns).caption(format!("{} after {} updates", self.module, self.updates));
        for t in &self.tensors {
            let counts = t.histogram.iter().flat_map(|h| &h.counts).map(|n| *n as f64).collect::<Vec<_>>();
            table.row([
                t.name.clone(),
                format!("{:?}", t.tensor.dims()),
                format!("{:.4e}", t.norm),
                format!("{:.3e}", t.largest),
                crate::plot::sparkline(&counts),
            ]);
        }
        table.show()
    }
}

impl Run {
    /// The gradients of the latest step, or those that wait for their update, by module: their norms,
    /// and which are zero or not finite.
    ///
    /// # Errors
    /// When there are none: no step was done since the run was opened, or all weights are trained and
    /// their gradients were not kept.
    pub fn gradients(&self) -> Result<GradientTable> {
        let mut names: Vec<String> = self.adapters().tensors().map(|(name, _)| name).collect();
        // As the forward pass meets them: block 2 before block 10.
        let targets = self.0.model.decoder().targets();
        let place = |name: &str| {
            let inside = |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
            targets.iter().position(|target| inside(&target.path)).unwrap_or(targets.len())
        };
        names.sort_by_cached_key(|name| (place(name), name.clone()));
        let current = self.0.shared.read();
        let (gradients, tokens) = match (&current.partial, &current.gradients) {
            (Some(partial), _) => (&partial.accumulated.gradients, partial.accumulated.trained_tokens),
            (None, Some(held)) => (&held.gradients, held.tokens),
            (None, None) => {
                return Err(Error::state("there are no gradients now")
                    .help("run.step()? or run.forward_backward(&batch)? computes them; in full fine-tuning only the latter keeps them"));
            }
        };
        let rows = names.iter().map(|name| Gradient::of(name, gradients.get(name), tokens));
        Ok(GradientTable(rows.collect::<Result<_>>()?))
    }

    /// One module from inside: A, B and what else is trained in it, with their gradients and the
    /// optimiser's moments as norms and histograms. `name` is its path or the end of it:
    /// `layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// When the name fits none or several of the trained modules.
    pub fn inspect(&self, name: &str) -> Result<Inspection> {
        let modules = self.modules();
        let fits = |module: &&String| ends_in(module, name);
        let found: Vec<&String> = modules.iter().filter(fits).collect();
        let [module] = found.as_slice() else {
            let near: Vec<&str> = match found.is_empty() {
                true => modules.iter().take(3).map(String::as_str).collect(),
                false => found.iter().take(3).map(|module| module.as_str()).collect(),
            };
            let what = if found.is_empty() { "no trained module" } else { "more than one trained module" };
            return Err(Error::input(format!("{what} is called {name:?}"))
                .help(format!("say one of {}, …", near.join(", "))));
        };
        let (learned, held) = {
            let current = self.0.shared.read();
            (current.learned.clone(), current.gradients.clone())
        };
        Inspection::of(module, &learned, held.as_deref())
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}
