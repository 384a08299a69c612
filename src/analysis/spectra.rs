//! The spectra of a run's adapters, now and along its steps.

use super::spectra_history::SpectraHistory;
use crate::display::{Dashboard, Show, Text, dashboard};
use crate::error::Result;
use crate::lora::{Activations, Adapters, Truncation};
use crate::plot::Figure;
use crate::run::Run;
use crate::spectrum::Spectra;

impl Run {
    /// The singular values of every adapter's B·A as they are now, and beside them those of B·C^½ with
    /// C = E[(A x)(A x)ᵀ] over the latest steps ([`Activations`](crate::lora::Activations)).
    ///
    /// # Errors
    /// When an adapter holds a value that is not finite.
    pub fn spectra(&self) -> Result<Spectra> {
        let learned = self.0.shared.read().learned.clone();
        learned.adapters.spectra_weighted(learned.activations.by_path())
    }

    /// The adapters as they are now, cut to a smaller rank with the least error in the layers' outputs on
    /// this run's data ([`truncate_weighted`](crate::lora::Adapters::truncate_weighted)), as
    /// [`rank_curve`](Self::rank_curve) cuts them; in ΔW where no step was made yet.
    ///
    /// # Errors
    /// As of [`truncate`](crate::lora::Adapters::truncate).
    pub fn truncate(&self, cut: &Truncation) -> Result<Adapters> {
        let learned = self.0.shared.read().learned.clone();
        learned.adapters.truncate_weighted(cut, learned.activations.by_path())
    }

    /// C = E[(A x)(A x)ᵀ] of each layer, which spectra and cuts are weighted by.
    pub fn activations(&self) -> Activations {
        self.0.shared.read().learned.activations.clone()
    }

    /// The singular values of every adapter along the steps so far.
    ///
    /// # Errors
    /// When none were kept, or an adapter holds a value that is not finite.
    pub fn spectra_history(&self) -> Result<SpectraHistory> {
        let history = self.history();
        let kept = history.steps().iter();
        let kept = kept.filter_map(|step| Some((step.step, step.loss, step.spectra.clone()?)));
        let losses = history.steps().iter().map(|step| (step.step as f64, step.loss)).collect();
        SpectraHistory::of(&self.adapters().spectra()?, kept.collect(), losses, self.footer())
    }

    /// Loss, spectra of B·A and of B·C^½, effective ranks and the ranks that keep 95 % of the energy, in one
    /// block.
    ///
    /// # Errors
    /// As [`spectra`](Self::spectra).
    pub fn dashboard(&self) -> Result<Dashboard> {
        let (spectra, history) = (self.spectra()?, self.history());
        let mut parts: Vec<Box<dyn Show>> = Vec::new();
        let mut put = |figure: Result<Figure>| {
            // Before the first step there is no loss, and all singular values are zero.
            parts.push(match figure {
                Ok(figure) => Box::new(figure),
                Err(error) => Box::new(Text::new(error.to_string())),
            });
        };
        put(history.plot());
        put(self.spectra_history().and_then(|history| history.plot()));
        put(spectra.plot());
        if let Some(weighted) = spectra.weighted() {
            put(weighted.plot());
        }
        put(spectra.heat_map());
        parts.push(Box::new(spectra.advise(0.95)?.table()));
        let parts: Vec<&dyn Show> = parts.iter().map(Box::as_ref).collect();
        Ok(dashboard(self.footer(), &parts))
    }
}
