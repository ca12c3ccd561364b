//! Panics of libraries on damaged files, as errors. The tokenizers library takes some contradictions of a `tokenizer.json` for its
//! own mistakes and panics; here they are the file's. Left out: panics on other threads, and what ends the process.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `run` returns, or the message of its panic, of which nothing is printed.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAUGHT.get() {
                before(info);
            }
        }));
    });
    let before = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    CAUGHT.set(before);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it doesn't say why");
        text.lines().next().unwrap_or_default().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_is_its_first_line_and_the_next_one_is_a_panic_again() {
        assert_eq!(caught(|| 3), Ok(3));
        let list = [1, 2];
        let index = caught(|| list.len()).unwrap() + 1;
        assert!(caught(|| list[index]).unwrap_err().starts_with("index out of bounds"));
        assert_eq!(caught(|| -> u8 { panic!("one\ntwo") }), Err("one".into()));
        assert_eq!(caught(|| caught(|| -> u8 { panic!("inner") })), Ok(Err("inner".into())));
        assert!(std::panic::catch_unwind(|| panic!("outside")).is_err());
    }
}
