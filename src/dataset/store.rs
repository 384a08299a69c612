//! Where rows lie: groups of some thousands, in memory or in a Parquet cache.

use std::sync::Arc;

use polars::prelude::*;

use super::cache::Cached;
use super::table::Rows;
use crate::error::{Error, Result};

/// Rows that one thread works on at a time.
const PIECE: usize = 1024;

/// Some consecutive rows of a file: a table of single chunks.
#[derive(Debug, Clone)]
pub(super) enum Group {
    Memory(Arc<DataFrame>),
    /// A row group of a cache file.
    Cached(Arc<Cached>, usize),
}

/// Some rows for one thread.
pub(super) struct StorePiece<'a> {
    /// The number of its first row, among those that were cut.
    pub first: usize,
    rows: Part<'a>,
}

enum Part<'a> {
    /// Consecutive rows of a group.
    Range { group: usize, start: usize, len: usize },
    /// Rows of a group, by their numbers in the store.
    Of { group: usize, rows: &'a [u32] },
    /// Rows of any groups, in any order.
    Mixed { rows: &'a [u32] },
}

impl Group {
    /// The groups of a cache file.
    pub fn of(cached: &Arc<Cached>) -> impl Iterator<Item = Self> {
        (0..cached.groups()).map(|index| Self::Cached(cached.clone(), index))
    }

    /// How many rows a piece of it has: a group that must be decoded is a single piece.
    fn piece(&self) -> usize {
        match self {
            Self::Memory(_) => PIECE,
            Self::Cached(..) => self.len().max(1),
        }
    }

    pub fn frame(&self) -> Result<Arc<DataFrame>> {
        match self {
            Self::Memory(frame) => Ok(frame.clone()),
            Self::Cached(file, index) => file.group(*index),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Memory(frame) => frame.height(),
            Self::Cached(file, index) => file.len_of(*index),
        }
    }
}

/// The rows of some files, one file after the other.
#[derive(Debug, Clone)]
pub(super) struct Store {
    groups: Vec<Group>,
    /// The number of each group's first row, and last the number of rows.
    starts: Vec<u32>,
}

impl Store {
    pub fn new(groups: impl IntoIterator<Item = Group>) -> Result<Self> {
        let groups: Vec<Group> = groups.into_iter().filter(|group| group.len() > 0).collect();
        let mut starts = vec![0u32];
        let mut end = 0u32;
        for group in &groups {
            end = u32::try_from(group.len()).ok().and_then(|len| end.checked_add(len)).ok_or_else(|| {
                Error::input("these are more than 4,294,967,295 rows").help("open fewer files at a time")
            })?;
            starts.push(end);
        }
        Ok(Self { groups, starts })
    }

    pub fn len(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    /// The group that holds a row, and the row's place in it.
    fn find(&self, row: u32) -> (usize, u32) {
        let group = self.starts.partition_point(|&start| start <= row) - 1;
        (group, row - self.starts[group])
    }

    /// The table that holds a row, and the row's place in it.
    pub fn row(&self, row: u32) -> Result<(Arc<DataFrame>, usize)> {
        let (group, place) = self.find(row);
        Ok((self.groups[group].frame()?, place as usize))
    }

    /// Cuts rows into pieces for one thread each. Without a selection these are all rows.
    pub fn cut<'a>(&self, selection: Option<&'a [u32]>) -> Vec<StorePiece<'a>> {
        let groups = self.groups.iter().enumerate().zip(self.starts.windows(2));
        match selection {
            None => groups
                .flat_map(|((group, rows), border)| {
                    let size = rows.piece();
                    let starts = (0..rows.len()).step_by(size);
                    starts.map(move |start| StorePiece {
                        first: border[0] as usize + start,
                        rows: Part::Range { group, start, len: size },
                    })
                })
                .collect(),
            // In the order of the store each group is looked at once.
            Some(selection) if selection.is_sorted() => groups
                .flat_map(|((group, rows), border)| {
                    let [from, to] =
                        [border[0], border[1]].map(|end| selection.partition_point(|&row| row < end));
                    let size = rows.piece();
                    selection[from..to].chunks(size).enumerate().map(move |(n, rows)| StorePiece {
                        first: from + n * size,
                        rows: Part::Of { group, rows },
                    })
                })
                .collect(),
            Some(selection) => selection
                .chunks(PIECE)
                .enumerate()
                .map(|(n, rows)| StorePiece { first: n * PIECE, rows: Part::Mixed { rows } })
                .collect(),
        }
    }

    /// Looks at the rows of a piece.
    pub fn on<T>(&self, piece: &StorePiece<'_>, work: &impl Fn(Rows<'_>, usize) -> Result<T>) -> Result<T> {
        let frame = match piece.rows {
            Part::Range { group, start, len } => self.groups[group].frame()?.slice(start as i64, len),
            Part::Of { group, rows } => {
                let places = rows.iter().map(|row| row - self.starts[group]).collect();
                taken(self.groups[group].frame()?.as_ref(), places)?
            }
            Part::Mixed { rows } => self.gathered(rows)?,
        };
        work(Rows::of(&frame)?, piece.first)
    }

    /// Some rows as one table, in the order that is asked for.
    fn gathered(&self, rows: &[u32]) -> Result<DataFrame> {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|&n| rows[n as usize]);
        let mut gathered: Option<DataFrame> = None;
        let groups = order.chunk_by(|&a, &b| self.find(rows[a as usize]).0 == self.find(rows[b as usize]).0);
        for of_group in groups {
            let (group, _) = self.find(rows[of_group[0] as usize]);
            let places = of_group.iter().map(|&n| self.find(rows[n as usize]).1).collect();
            let part = taken(self.groups[group].frame()?.as_ref(), places)?;
            match &mut gathered {
                None => gathered = Some(part),
                Some(gathered) => {
                    gathered.vstack_mut_owned(part)?;
                }
            }
        }
        let gathered = gathered.ok_or_else(|| Error::compute("no rows were asked for"))?;
        let mut places = vec![0u32; rows.len()];
        for (at, &n) in order.iter().enumerate() {
            places[n as usize] = at as u32;
        }
        taken(&gathered, places)
    }
}

/// Some rows of a table, by their places, in single chunks.
fn taken(frame: &DataFrame, places: Vec<u32>) -> Result<DataFrame> {
    let mut frame = frame.take(&IdxCa::from_vec("rows".into(), places))?;
    frame.rechunk_mut();
    Ok(frame)
}
