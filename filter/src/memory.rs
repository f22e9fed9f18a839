//! Memory for what the host returns.
//!
//! The host asks for it by `proxy_on_memory_allocate`, from inside a call that we made. What a request needs
//! fits a fixed buffer that is used anew for each call; what is larger (a plugin configuration, labels) comes
//! from the heap and lives until the next call.
#![expect(unsafe_code, reason = "hands addresses of this VM's memory to the host")]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ptr::null_mut;

/// Cluster names have 300 bytes at most, localities 400.
const BUFFER: usize = 4096;

#[repr(align(16))]
struct Arena {
    buffer: UnsafeCell<[u8; BUFFER]>,
    used: Cell<usize>,
    large: RefCell<Vec<Vec<u8>>>,
}

// SAFETY: a proxy-wasm VM has one thread.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena {
    buffer: UnsafeCell::new([0; BUFFER]),
    used: Cell::new(0),
    large: RefCell::new(Vec::new()),
};

/// Frees what the host returned by earlier calls. The caller must hold none of it; `host::Host` sees to that.
pub(crate) fn clear() {
    ARENA.used.set(0);
    if let Ok(mut large) = ARENA.large.try_borrow_mut()
        && !large.is_empty()
    {
        large.clear();
    }
}

/// Memory for the host, which writes `size` bytes there; null where there is none: the host's call fails then.
pub(crate) fn allocate(size: usize) -> *mut u8 {
    let start = ARENA.used.get();
    match start.checked_add(size) {
        Some(end) if end <= BUFFER => {
            ARENA.used.set(end);
            // SAFETY: start is at most end, which is within the buffer.
            unsafe { ARENA.buffer.get().cast::<u8>().add(start) }
        }
        _ => large(size),
    }
}

fn large(size: usize) -> *mut u8 {
    let mut bytes = Vec::new();
    let Ok(mut large) = ARENA.large.try_borrow_mut() else {
        return null_mut();
    };
    if bytes.try_reserve_exact(size).is_err() {
        return null_mut();
    }
    // The host writes all of it; zeroes make it valid whatever the host does.
    bytes.resize(size, 0);
    let start = bytes.as_mut_ptr();
    large.push(bytes);
    start
}
