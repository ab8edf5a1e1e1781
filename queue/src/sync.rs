//! Locks, atomics and threads of the crate: `parking_lot` and std, or with feature `shuttle` those of a scheduler that
//! tries interleavings (`tests/schedules.rs`). The same code runs on both.

#[cfg(not(feature = "shuttle"))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread;
}

#[cfg(not(feature = "shuttle"))]
pub(crate) use real::*;
#[cfg(feature = "shuttle")]
pub(crate) use scheduled::*;

/// The part of `parking_lot`'s interface that the crate uses.
#[cfg(feature = "shuttle")]
mod scheduled {
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::thread;

    use shuttle::rand::Rng;
    use shuttle::sync as inner;
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::time::{Duration, Instant};

    const POISONED: &str = "no thread panics while it holds a lock";

    #[derive(Default)]
    pub(crate) struct Mutex<T>(inner::Mutex<T>);

    /// Empty only inside a wait.
    pub(crate) struct MutexGuard<'a, T>(Option<inner::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(inner::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(POISONED)))
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().expect(POISONED)
        }
    }

    impl<T> fmt::Debug for Mutex<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Mutex")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("held outside of a wait")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("held outside of a wait")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(inner::Condvar);

    pub(crate) struct WaitTimeoutResult(bool);

    impl WaitTimeoutResult {
        pub(crate) fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let held = guard.0.take().expect("held outside of a wait");
            guard.0 = Some(self.0.wait(held).expect(POISONED));
        }

        pub(crate) fn wait_while<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            mut more: impl FnMut(&mut T) -> bool,
        ) {
            while more(guard) {
                self.wait(guard);
            }
        }

        /// Sometimes the time is over at once, sometimes it never is: a schedule knows no time.
        pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> WaitTimeoutResult {
            let over = shuttle::rand::thread_rng().gen_bool(0.5);
            if !over {
                self.wait(guard);
            }
            WaitTimeoutResult(over)
        }

        pub(crate) fn wait_while_for<T>(
            &self,
            guard: &mut MutexGuard<'_, T>,
            mut more: impl FnMut(&mut T) -> bool,
            timeout: Duration,
        ) -> WaitTimeoutResult {
            while more(guard) {
                if self.wait_until(guard, Instant::now() + timeout).timed_out() {
                    return WaitTimeoutResult(true);
                }
            }
            WaitTimeoutResult(false)
        }
    }

    #[derive(Default)]
    pub(crate) struct RwLock<T>(inner::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(inner::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> inner::RwLockReadGuard<'_, T> {
            self.0.read().expect(POISONED)
        }

        pub(crate) fn write(&self) -> inner::RwLockWriteGuard<'_, T> {
            self.0.write().expect(POISONED)
        }
    }
}
