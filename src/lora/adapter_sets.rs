//! Several named adapters over one frozen model, and which of them are active.

use super::{Adapters, Combine, Target};
use crate::display::{Align, Bundle, Show, Table};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Named adapters of one model: switching from W₀ + B₁A₁ to W₀ + B₂A₂ takes a name, and nothing is loaded again.
///
/// Cheap to clone; all clones are one collection.
///
/// # Examples
/// ```
/// use lorascope::candle_core::Device;
/// use lorascope::lora::{AdapterSets, Adapters, LoraConfig, Target};
///
/// let targets = [Target::linear("layers.0.q_proj", [8, 8])];
/// let config = LoraConfig { rank: 2, ..Default::default() };
/// let sets = AdapterSets::new(&targets);
/// sets.add("math", &Adapters::new(&config, &targets, 1, &Device::Cpu)?)?;
/// sets.add("code", &Adapters::new(&config, &targets, 2, &Device::Cpu)?)?;
/// sets.activate("math")?;
/// assert_eq!(sets.active().parameters(), 32);
/// sets.activate_weighted([("math", 0.7), ("code", 0.3)])?;
/// assert_eq!(sets.active().get("layers.0.q_proj").unwrap().rank(), 4);
/// sets.deactivate();
/// assert!(sets.active().is_empty());
/// assert_eq!(
///     sets.activate("maths").unwrap_err().to_string(),
///     "no adapter is called \"maths\"; there are code, math"
/// );
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdapterSets(Arc<Mutex<Sets>>);

#[derive(Debug)]
struct Sets {
    targets: Vec<Target>,
    named: BTreeMap<String, Adapters>,
    weights: Vec<(String, f64)>,
    active: Adapters,
}

impl AdapterSets {
    /// An empty collection for a model with these targets.
    pub fn new(targets: &[Target]) -> Self {
        Self(Arc::new(Mutex::new(Sets {
            targets: targets.to_vec(),
            named: BTreeMap::new(),
            weights: Vec::new(),
            active: Adapters::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds adapters under a name; those of the same name are replaced, unless they are active.
    ///
    /// # Errors
    /// When they belong to another model, the name is empty, or it is that of active adapters.
    pub fn add(&self, name: &str, adapters: &Adapters) -> Result<()> {
        let mut sets = self.lock();
        if name.trim().is_empty() {
            return Err(Error::input("an adapter needs a name"));
        }
        if sets.weights.iter().any(|(active, _)| active == name) {
            return Err(Error::state(format!("the adapter {name:?} is active")).help("deactivate() it first"));
        }
        adapters.check(&sets.targets)?;
        sets.named.insert(name.to_string(), adapters.clone());
        Ok(())
    }

    /// Removes and returns adapters.
    ///
    /// # Errors
    /// When there is none of that name, or it is active.
    pub fn remove(&self, name: &str) -> Result<Adapters> {
        let mut sets = self.lock();
        if sets.weights.iter().any(|(active, _)| active == name) {
            return Err(Error::state(format!("the adapter {name:?} is active")).help("deactivate() it first"));
        }
        sets.get(name)?;
        sets.named.remove(name).ok_or_else(|| Error::compute("the adapter is gone"))
    }

    /// The adapters of this name.
    ///
    /// # Errors
    /// When there is none; the error lists those that there are.
    pub fn get(&self, name: &str) -> Result<Adapters> {
        self.lock().get(name).cloned()
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().named.keys().cloned().collect()
    }

    /// Makes one adapter the active one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn activate(&self, name: &str) -> Result<()> {
        self.activate_weighted([(name, 1.0)])
    }

    /// Makes several active at once: ΔW = Σ wᵢ·ΔWᵢ.
    ///
    /// # Errors
    /// When a name is unknown or stands twice, or the adapters cannot be summed
    /// ([`Adapters::combine`]).
    pub fn activate_weighted<'a>(&self, weighted: impl IntoIterator<Item = (&'a str, f64)>) -> Result<()> {
        let mut sets = self.lock();
        let weights: Vec<(String, f64)> = weighted.into_iter().map(|(n, w)| (n.to_string(), w)).collect();
        if let Some(i) = (1..weights.len()).find(|i| weights[..*i].iter().any(|(n, _)| *n == weights[*i].0)) {
            return Err(Error::input(format!("the adapter {:?} is named twice", weights[i].0)));
        }
        let those: Vec<(&Adapters, f64)> =
            weights.iter().map(|(name, weight)| Ok((sets.get(name)?, *weight))).collect::<Result<_>>()?;
        let active = match those[..] {
            [] => Adapters::default(),
            [(one, 1.0)] => one.clone(),
            _ => Adapters::combine(&those, Combine::Cat)?,
        };
        sets.active = active;
        sets.weights = weights;
        Ok(())
    }

    /// Makes none active.
    pub fn deactivate(&self) {
        let mut sets = self.lock();
        sets.active = Adapters::default();
        sets.weights.clear();
    }

    /// What is active now, as one set of adapters.
    pub fn active(&self) -> Adapters {
        self.lock().active.clone()
    }
}

impl Sets {
    fn get(&self, name: &str) -> Result<&Adapters> {
        self.named.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none: add() one".to_string() } else { known.join(", ") };
            Error::input(format!("no adapter is called {name:?}")).help(format!("there are {known}"))
        })
    }
}

impl Show for AdapterSets {
    fn show(&self) -> Bundle {
        let sets = self.lock();
        let columns = [
            ("adapter", Align::Left),
            ("layers", Align::Right),
            ("parameters", Align::Right),
            ("weight", Align::Right),
        ];
        let notes = sets.named.iter().flat_map(|(name, adapters)| {
            adapters.notes().iter().map(move |note| format!("; {name}: {note}"))
        });
        let mut table = Table::new(columns).caption(format!("adapters{}", notes.collect::<String>()));
        for (name, adapters) in &sets.named {
            let weight = sets.weights.iter().find(|(active, _)| active == name);
            table.row([
                name.clone(),
                adapters.len().to_string(),
                crate::display::thousands(adapters.parameters() as u64),
                weight.map_or_else(String::new, |(_, weight)| format!("{weight}")),
            ]);
        }
        table.show()
    }
}
