//! The one thread pool, rayon's global one.

/// Runs `f` on a thread of the pool and waits for it. An op that is called from outside hands its work over and sleeps
/// until it is done, some tens of microseconds each time, hundreds of times a step; on the pool it takes part itself.
/// Results don't change. Inside the pool it is a plain call.
pub fn run<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| f())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_runs_is_on_the_pool_and_its_result_comes_back() {
        assert!(rayon::current_thread_index().is_none());
        assert!(super::run(rayon::current_thread_index).is_some());
        assert_eq!(super::run(|| super::run(|| 7)), 7);
    }
}
