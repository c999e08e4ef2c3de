//! Which of a network's forward passes on a GPU are recorded, and launched as a whole from then on.

use crate::model::Adapter;
use crate::ops::gpu::{self, Graph};
use crate::ops::timing;
use candle_core::Result;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Batches of one kind after which it is taken for a steady one.
const STEADY: u32 = 3;
/// Crops of a batch that are recorded at most: with more, the launches take less time than the work.
const MOST_CROPS: usize = 64;
/// Recordings of a kind that may fail, as where memory is short for a while, before it goes launch by launch for good.
const TRIES: u32 = 3;
/// Kinds that are kept; a graph holds the memory of a whole forward pass.
const MOST: usize = 4;

/// A network's recorded passes, by crops of a batch and adapter; those used last come first.
#[derive(Debug, Default)]
pub(crate) struct Graphs(Mutex<Vec<Kind>>);

#[derive(Debug)]
struct Kind {
    crops: usize,
    adapter: Option<Weak<Adapter>>,
    graph: State,
}

#[derive(Debug, Clone)]
enum State {
    /// How often, after so many recordings that failed.
    Seen(u32, u32),
    Recorded(Arc<Graph>),
}

impl Kind {
    fn is(&self, crops: usize, adapter: Option<&Arc<Adapter>>) -> bool {
        let same = match (&self.adapter, adapter) {
            (None, None) => true,
            (Some(kept), Some(adapter)) => std::ptr::eq(kept.as_ptr(), Arc::as_ptr(adapter)),
            _ => false,
        };
        same && self.crops == crops
    }
}

impl Graphs {
    /// The graph for batches of so many crops, where they are steady; `record` makes it. None where launches go one by one.
    pub(crate) fn of(
        &self,
        crops: usize,
        adapter: Option<&Arc<Adapter>>,
        record: impl FnOnce() -> Result<Graph>,
    ) -> Option<Arc<Graph>> {
        // Where time is counted each operation is waited for, which no graph can.
        if crops > MOST_CROPS || gpu::is_in_use_here() || timing::is_on() {
            return None;
        }
        let mut kinds = self.0.lock();
        kinds.retain(|kind| kind.adapter.as_ref().is_none_or(|adapter| adapter.strong_count() > 0));
        let mut kind = match kinds.iter().position(|kind| kind.is(crops, adapter)) {
            Some(index) => kinds.remove(index),
            None => Kind { crops, adapter: adapter.map(Arc::downgrade), graph: State::Seen(0, 0) },
        };
        if let State::Seen(times, failures) = &mut kind.graph {
            *times += 1;
            if *times > STEADY && *failures < TRIES {
                // Whoever else has a batch waits meanwhile, as it would for the GPU.
                kind.graph = match record() {
                    Ok(graph) => State::Recorded(Arc::new(graph)),
                    Err(_) => State::Seen(0, *failures + 1),
                };
            }
        }
        let graph = match &kind.graph {
            State::Recorded(graph) => Some(Arc::clone(graph)),
            State::Seen(..) => None,
        };
        kinds.truncate(MOST - 1);
        kinds.insert(0, kind);
        graph
    }

    /// How many kinds of batches are recorded, and of how many a recording has failed.
    pub(crate) fn counts(&self) -> [usize; 2] {
        let kinds = self.0.lock();
        let count = |is: fn(&State) -> bool| kinds.iter().filter(|kind| is(&kind.graph)).count();
        [count(|state| matches!(state, State::Recorded(_))), count(|state| matches!(state, State::Seen(_, 1..)))]
    }
}
