//! What a hostile report can make the decoder allocate.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]
#![allow(unsafe_code, reason = "an allocator can only be counted by being one")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{mk_body, mk_head, mk_key, mk_series, mk_window};
use gma_report::histogram::{HistogramError, check_v2};
use gma_report::{decode, encode_envelope, limits, v1};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counter any more.
        let _ = ALLOCATED.try_with(|sum| sum.set(sum.get() + layout.size()));
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `work` allocates on this thread, those that it frees included.
fn allocated<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATED.get();
    let result = work();
    (ALLOCATED.get() - before, result)
}

/// 41 bytes that make the library allocate 49 MB.
fn mk_bomb() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0x1c84_9313u32.to_be_bytes());
    bytes.extend_from_slice(&1u32.to_be_bytes());
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes.extend_from_slice(&5u32.to_be_bytes());
    bytes.extend_from_slice(&1u64.to_be_bytes());
    bytes.extend_from_slice(&(1u64 << 63).to_be_bytes());
    bytes.extend_from_slice(&1f64.to_be_bytes());
    bytes.push(2);
    bytes
}

#[test]
fn header_that_asks_for_gigabytes_gets_nothing() {
    let bomb = mk_bomb();
    let (bytes, result) = allocated(|| check_v2(&bomb, 1).map(|_| ()));
    assert_eq!(result, Err(HistogramError::Header("significant digits")));
    assert_eq!(bytes, 0);

    let series = v1::Series {
        histogram: bomb,
        ..mk_series(mk_key("cart", v1::Outcome::Ok), &[5])
    };
    let body = mk_body(&v1::Window {
        series: vec![series],
        ..mk_window()
    });
    let (bytes, result) = allocated(|| decode(&body));
    assert!(result.is_err());
    assert!(bytes < 16 * 1024, "{bytes} bytes for {}", body.len());
}

#[test]
fn a_million_empty_entries_get_nothing() {
    for field in [0x22, 0x32] {
        // Field 4 or 6 with no content, as often as a window can hold it: 50 to 100 MB if built.
        let window = [field, 0].repeat(limits::MAX_WINDOW_BYTES / 2);
        let body = encode_envelope(&mk_head(1), &window);
        let (bytes, result) = allocated(|| decode(&body));
        assert!(result.is_err());
        assert!(bytes <= 2 * body.len(), "{bytes} bytes for {}", body.len());
    }
}
