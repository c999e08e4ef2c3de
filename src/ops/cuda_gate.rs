//! Who uses a GPU: any number of threads, or one that records. A stream records what any thread does on it, and freeing is done on
//! it too.

use parking_lot::{Condvar, Mutex};
use std::cell::Cell;

struct State {
    users: usize,
    /// Recordings that wait or go on.
    recordings: usize,
    recording: bool,
}

static STATE: Mutex<State> = Mutex::new(State { users: 0, recordings: 0, recording: false });
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// How often this thread holds one of the two.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

fn enter() -> usize {
    DEPTH.with(|depth| depth.replace(depth.get() + 1))
}

/// Whether it was the last.
fn leave() -> bool {
    DEPTH.with(|depth| {
        depth.set(depth.get() - 1);
        depth.get() == 0
    })
}

/// Held while a GPU is used. Dropped by the thread that made it.
#[derive(Debug)]
pub(crate) struct InUse(());

/// Waits for a recording to end. A thread may hold several: it waits for the first alone.
pub(crate) fn in_use() -> InUse {
    if enter() == 0 {
        let mut state = STATE.lock();
        CHANGED.wait_while(&mut state, |state| state.recordings > 0);
        state.users += 1;
    }
    InUse(())
}

/// Whether this thread holds one.
pub(crate) fn is_in_use_here() -> bool {
    DEPTH.with(Cell::get) > 0
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Of a thread that records, whose first was no user, none is the last.
        if leave() {
            STATE.lock().users -= 1;
            CHANGED.notify_all();
        }
    }
}

/// Held by the thread that records.
pub(super) struct Alone(());

/// Waits for all that use a GPU; who comes after waits for this.
pub(super) fn alone() -> Alone {
    let mut state = STATE.lock();
    state.recordings += 1;
    CHANGED.wait_while(&mut state, |state| state.users > 0 || state.recording);
    state.recording = true;
    enter();
    Alone(())
}

impl Drop for Alone {
    fn drop(&mut self) {
        leave();
        let mut state = STATE.lock();
        state.recording = false;
        state.recordings -= 1;
        CHANGED.notify_all();
    }
}

/// The last field of what has memory on a GPU: from [`begin`](Self::begin), in its `drop`, to its end the GPU is in use.
#[derive(Debug, Default)]
pub(crate) struct Leave(Option<InUse>);

impl Leave {
    pub(crate) fn begin(&mut self) {
        self.0 = Some(in_use());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_recording_is_alone_and_users_are_not() {
        let (users, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let _outer = in_use();
                        most.fetch_max(users.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        drop(in_use()); // waits for nothing, whoever waits to record
                        assert!(is_in_use_here());
                        users.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            for _ in 0..500 {
                let _alone = alone();
                assert_eq!(users.load(Ordering::SeqCst), 0);
                drop(in_use());
            }
        });
        assert!(most.load(Ordering::SeqCst) > 1 && !is_in_use_here());
    }
}
