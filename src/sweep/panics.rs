//! Panics as errors: of a run that must not end a sweep, of a reader of foreign files.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// `Some` while this thread's panics are caught: where one was, once there is one.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does `work`, in which nobody else catches; a panic is returned as text, with its place, and printed
/// nowhere.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_caught = PANIC.with_borrow_mut(|place| {
                let is_caught = place.is_some();
                if let (Some(place), Some(location)) = (place, info.location()) {
                    *place = format!(" at {location}");
                }
                is_caught
            });
            if !is_caught {
                previous(info);
            }
        }));
    });
    PANIC.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let place = PANIC.take().unwrap_or_default();
    result.map_err(|payload| format!("{}{place}", message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or(payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}
