//! What is looked at before the first step: a run that would learn the wrong thing says so in seconds, not
//! after hours.

use crate::dataset::Dataset;
use crate::display::{Align, Bundle, Show, Table, brief, thousands};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::batches::{Batches, Preparing};
use crate::train::left_out::lists_not_read;
use crate::train::row_checks::{Checked, check_rows};
use crate::train::{Finding, RowsLeftOut, RunConfig, Severity, finding};
use std::path::PathBuf;

/// What was found before the first step.
///
/// # Examples
/// ```
/// use lorascope::analysis::Preflight;
/// use lorascope::train::{Finding, Severity};
///
/// let mut found = Preflight::default();
/// found.push(Finding::new("memory", Severity::Fine, "3.1 GB of 24.0 GB"));
/// assert!(found.fatal().is_none());
/// found.push(Finding::new("bos", Severity::Fatal, "two of them").help("change the chat template"));
/// assert_eq!(found.fatal().unwrap().to_string(), "bos: two of them; change the chat template");
/// ```
#[derive(Clone, PartialEq, Default)]
pub struct Preflight {
    /// What each check found, in their order.
    pub findings: Vec<Finding>,
    /// The rows that a run would leave out, with file, line and why.
    pub left_out: RowsLeftOut,
}

impl Preflight {
    /// Checks the rows as a run with this config would see them.
    ///
    /// # Errors
    /// When no row can be trained on, or one does not fit the chat template and faults are to fail.
    pub fn of(data: &Dataset, model: &Model, config: &RunConfig) -> Result<Self> {
        let how = Preparing::of(config);
        let rows = Batches::new(data, model, how)?;
        let how = Preparing { context: Some(rows.context()), ..how };
        let for_evaluation = |eval| Batches::for_evaluation(eval, Some(data), model, how);
        let eval = config.eval.as_ref().map(for_evaluation).transpose()?;
        let checked = Checked { rows: &rows, data, eval: eval.as_ref().zip(config.eval.as_ref()) };
        let findings = check_rows(checked, config, model.tokenizer())?;
        let mut found = Self { findings, left_out: RowsLeftOut::default() };
        found.left_out.lists = lists_not_read(data, config.eval.as_ref())?;
        rows.add_left_out(data, &mut found.left_out)?;
        if let Some((rows, data)) = checked.eval {
            rows.add_left_out(data, &mut found.left_out)?;
        }
        Ok(found)
    }

    /// Adds what another check found.
    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The warnings, each in a line.
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        warnings.map(|finding| finding.error().to_string()).collect()
    }

    /// The first finding with which no run should begin, as an error that shows its row.
    pub fn fatal(&self) -> Option<Error> {
        finding::fatal(&self.findings)
    }
}

brief!(Preflight);

impl Show for Preflight {
    fn show(&self) -> Bundle {
        let columns = [
            ("", Align::Left),
            ("check", Align::Left),
            ("file", Align::Left),
            ("line", Align::Right),
            ("row", Align::Right),
            ("it begins", Align::Left),
            ("found", Align::Left),
        ];
        let mut table = Table::new(columns).caption("before the first step").whole();
        for finding in &self.findings {
            let name = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
            let help = if finding.help.is_empty() { String::new() } else { format!("; {}", finding.help) };
            table.row([
                finding.severity.name().to_string(),
                finding.check.to_string(),
                finding.file.as_ref().and_then(name).unwrap_or_default(),
                finding.line.map(thousands).unwrap_or_default(),
                finding.row.map(|row| thousands(row as u64)).unwrap_or_default(),
                finding.words.clone(),
                format!("{}{help}", finding.what),
            ]);
        }
        table.show()
    }
}
