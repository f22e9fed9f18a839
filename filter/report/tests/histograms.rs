//! Our reader and writer of V2 histograms against the library's.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what helps them"
)]

use gma_report::histogram::{
    BUCKETS, DIGITS, HEADER_BYTES, HIGHEST_US, HistogramError, LOWEST_US, MAX_BYTES, bucket_of, check_v2,
    encode_v2, highest_us, lowest_us,
};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use proptest::prelude::*;

fn mk_histogram(values: &[(u64, u32)]) -> Histogram<u32> {
    let mut histogram =
        Histogram::new_with_bounds(LOWEST_US, HIGHEST_US, DIGITS).expect("the bounds are valid");
    for (value, count) in values {
        histogram.record_n(*value, *count).expect("the value is in range");
    }
    histogram
}

fn ours(histogram: &Histogram<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_v2(histogram, &mut bytes);
    bytes
}

fn values() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let value = prop_oneof![0..300u64, 0..=HIGHEST_US, 59_000_000..=HIGHEST_US];
    let count = prop_oneof![1..5u32, 1..100_000u32];
    proptest::collection::vec((value, count), 0..200)
}

proptest! {
    #[test]
    fn bytes_equal_the_librarys(values in values()) {
        let histogram = mk_histogram(&values);
        let mut theirs = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut theirs).expect("it can be written");
        prop_assert_eq!(ours(&histogram), theirs);
    }

    #[test]
    fn library_reads_what_we_write(values in values()) {
        let histogram = mk_histogram(&values);
        let read: Histogram<u32> =
            Deserializer::new().deserialize(&mut &*ours(&histogram)).expect("it can be read");
        prop_assert_eq!(read, histogram);
    }

    #[test]
    fn grown_on_demand_is_the_same_on_the_wire(values in values()) {
        let mut grown = Histogram::<u32>::new(DIGITS).expect("the digits are valid");
        for (value, count) in &values {
            grown.record_n(*value, *count).expect("it grows");
        }
        prop_assert_eq!(ours(&grown), ours(&mk_histogram(&values)));
    }

    #[test]
    fn checked_buckets_are_what_was_recorded(values in values()) {
        let histogram = mk_histogram(&values);
        let bytes = ours(&histogram);
        let checked = check_v2(&bytes, histogram.len()).expect("it is ours");
        let recorded: Vec<_> =
            histogram.iter_recorded().map(|v| (bucket_of(v.value_iterated_to()), v.count_at_value())).collect();
        prop_assert_eq!(checked.buckets().collect::<Vec<_>>(), recorded);
        let sum: u64 = values.iter().map(|(value, count)| value * u64::from(*count)).sum();
        prop_assert!((checked.least_sum_us..=checked.most_sum_us).contains(&sum));
        let other = histogram.len() + 1;
        prop_assert_eq!(
            check_v2(&bytes, other),
            Err(HistogramError::Sum { found: histogram.len(), expected: other })
        );
    }

    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in any::<u64>()) {
        let _ = check_v2(&bytes, count);
        let mut ours = ours(&mk_histogram(&[]));
        ours.truncate(HEADER_BYTES);
        ours.extend_from_slice(&bytes);
        ours[4..8].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
        if let Ok(checked) = check_v2(&ours, count) {
            prop_assert_eq!(checked.buckets().map(|(_, count)| u64::from(count)).sum::<u64>(), count);
        }
    }

    #[test]
    fn buckets_hold_their_values(value in 0..=HIGHEST_US) {
        let library = mk_histogram(&[(value, 1)]);
        let bucket = bucket_of(value);
        prop_assert_eq!(lowest_us(bucket), library.lowest_equivalent(value));
        prop_assert_eq!(highest_us(bucket), library.highest_equivalent(value));
    }
}

#[test]
fn buckets_are_as_many_as_the_librarys() {
    assert_eq!(mk_histogram(&[]).distinct_values(), BUCKETS);
    assert!(bucket_of(u64::MAX) < BUCKETS);
    assert!((1..BUCKETS).all(|bucket| lowest_us(bucket) == highest_us(bucket - 1) + 1));
}

#[test]
fn full_histogram_has_the_longest_payload() {
    let buckets = (0..=bucket_of(HIGHEST_US)).map(|bucket| (bucket, u32::MAX));
    let mut bytes = Vec::new();
    gma_report::histogram::encode_buckets(buckets, &mut bytes);
    let count = (bucket_of(HIGHEST_US) as u64 + 1) * u64::from(u32::MAX);
    assert!(check_v2(&bytes, count).is_ok());
    assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
}

#[test]
fn every_byte_of_the_header_is_checked() {
    let good = ours(&mk_histogram(&[(20_000, 3)]));
    assert!(check_v2(&good, 3).is_ok());
    for at in 0..HEADER_BYTES {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(
            matches!(check_v2(&bad, 3), Err(HistogramError::Header(_))),
            "byte {at}"
        );
    }
}

#[test]
fn counts_past_the_shape_are_refused() {
    let payload = |counts: &[u8]| {
        let mut bytes = ours(&mk_histogram(&[]));
        bytes.truncate(HEADER_BYTES);
        bytes[4..8].copy_from_slice(&(counts.len() as u32).to_be_bytes());
        bytes.extend_from_slice(counts);
        bytes
    };
    // 2,533 empty buckets (zigzag 5,065), then a count: past the last bucket.
    let past = payload(&[0xc9, 0x27, 0x02]);
    assert_eq!(check_v2(&past, 1), Err(HistogramError::Counts(2)));
    // 2^32: one more than the filter can count.
    let large = payload(&[0x80, 0x80, 0x80, 0x80, 0x20]);
    assert_eq!(check_v2(&large, 1 << 32), Err(HistogramError::Counts(0)));
    let endless = payload(&[0xff; 20]);
    assert_eq!(check_v2(&endless, 1), Err(HistogramError::Counts(0)));
    let cut = payload(&[0x02, 0x80]);
    assert_eq!(check_v2(&cut, 1), Err(HistogramError::Counts(1)));
    assert_eq!(check_v2(&[], 0), Err(HistogramError::Length(0)));
}
