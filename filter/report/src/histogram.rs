//! Histograms on the wire: HdrHistogram V2, uncompressed, of exactly one shape.
//!
//! The shape is fixed by [`DIGITS`], [`LOWEST_US`] and [`HIGHEST_US`], so a bucket is a number below
//! [`BUCKETS`] and two histograms are merged by adding counts bucket by bucket. The library's own
//! reader trusts the header (41 bytes can make it allocate 49 MB); this one compares the header with
//! ours and then walks the counts without building anything.
//!
//! A payload is 40 bytes of header, big endian: cookie, length of the rest, normalizing offset,
//! digits, lowest, highest, ratio. Then the counts of the buckets from 0 to the last that is not
//! empty: zigzag LEB128 (at most 9 bytes), where a negative number -n stands for n empty buckets.

use hdrhistogram::Histogram;

/// Significant decimal digits: a value is known within 1 %.
pub const DIGITS: u8 = 2;
/// Smallest value that is told from its neighbours, µs.
pub const LOWEST_US: u64 = 1;
/// Largest value, µs: 60 s. Longer requests are counted apart.
pub const HIGHEST_US: u64 = 60_000_000;
/// Buckets of the shape, the last few of which lie above [`HIGHEST_US`].
pub const BUCKETS: usize = (RANGES + 1) * HALF;
/// Header, bytes.
pub const HEADER_BYTES: usize = 40;
/// Longest payload: the header and every bucket with a count of 32 bits (5 bytes in zigzag LEB128).
pub const MAX_BYTES: usize = HEADER_BYTES + BUCKETS * 5;

/// 2 digits need single steps up to 200; the next power of two is 256 (HdrHistogram's sub-buckets).
const SUB_BITS: u32 = 8;
/// Half of the sub-buckets: from the second range on only the upper half is used.
const HALF: usize = 1 << (SUB_BITS - 1);
/// Ranges that double in width until 60 s are covered: 256 << 18 = 67,108,864.
const RANGES: usize = 19;
/// V2, zigzag LEB128 counts.
const COOKIE: u32 = 0x1c84_9313;

/// Why bytes are not a histogram of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// Shorter than a header, or longer than any histogram of this shape.
    #[error("histogram has {0} bytes, expected {min} to {max}", min = HEADER_BYTES, max = MAX_BYTES)]
    Length(usize),
    /// The header differs from ours.
    #[error("histogram header's {0} differs from the format's")]
    Header(&'static str),
    /// A count is cut off, too large, or lies past the last bucket.
    #[error("histogram counts are invalid at byte {0}")]
    Counts(usize),
    /// The counts do not sum to the count that was sent with them.
    #[error("histogram counts {found} requests, its series {expected}")]
    Sum {
        /// Sum of the histogram's counts.
        found: u64,
        /// Count of its series.
        expected: u64,
    },
}

/// A histogram whose bytes were checked: iterating it cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<'a> {
    counts: &'a [u8],
    /// Sum of the smallest values that the counts can stand for, µs.
    pub least_sum_us: u64,
    /// Sum of the largest values that the counts can stand for, µs.
    pub most_sum_us: u64,
}

impl<'a> Checked<'a> {
    /// Each bucket that is not empty, ascending, with its count (1 … 2^32 - 1).
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u32)> + 'a {
        Buckets {
            bytes: self.counts,
            at: 0,
            bucket: 0,
        }
        .map_while(Result::ok)
    }
}

/// Bucket of a value. Values above [`HIGHEST_US`] are taken as that.
pub const fn bucket_of(value_us: u64) -> usize {
    let value = if value_us > HIGHEST_US {
        HIGHEST_US
    } else {
        value_us
    };
    let range = u64::BITS - SUB_BITS - (value | ((1 << SUB_BITS) - 1)).leading_zeros();
    ((range as usize) << (SUB_BITS - 1)) + (value >> range) as usize
}

/// Smallest value of a bucket, µs.
pub const fn lowest_us(bucket: usize) -> u64 {
    if bucket < 2 * HALF {
        return bucket as u64;
    }
    let range = bucket / HALF - 1;
    ((bucket % HALF + HALF) as u64) << range
}

/// Largest value of a bucket, µs.
pub const fn highest_us(bucket: usize) -> u64 {
    let width = if bucket < 2 * HALF { 0 } else { bucket / HALF - 1 };
    lowest_us(bucket) + (1 << width) - 1
}

/// Appends `histogram` as a V2 payload, byte for byte what the library's own serializer writes for
/// the shape of this module. A histogram that was grown on demand is written with the same header.
pub fn encode_v2(histogram: &Histogram<u32>, out: &mut Vec<u8>) {
    let recorded = histogram.iter_recorded();
    encode_buckets(
        recorded.map(|v| (bucket_of(v.value_iterated_to()), v.count_at_value())),
        out,
    );
}

/// Appends a V2 payload of the buckets, which must come in ascending order; equal ones are added.
pub fn encode_buckets(buckets: impl IntoIterator<Item = (usize, u32)>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&u32::from(DIGITS).to_be_bytes());
    out.extend_from_slice(&LOWEST_US.to_be_bytes());
    out.extend_from_slice(&HIGHEST_US.to_be_bytes());
    out.extend_from_slice(&1f64.to_be_bytes());
    let mut next = 0;
    let mut last: Option<(usize, u32)> = None;
    for (bucket, count) in buckets {
        if count == 0 {
            continue;
        }
        last = match last {
            Some((same, sum)) if same == bucket => Some((same, sum.saturating_add(count))),
            Some(done) => {
                next = put(done, next, out);
                Some((bucket, count))
            }
            None => Some((bucket, count)),
        };
    }
    match last {
        Some(done) => {
            put(done, next, out);
        }
        // The library writes an empty histogram as its first bucket, empty.
        None => out.push(0),
    }
    let counts = (out.len() - start).saturating_sub(HEADER_BYTES) as u32;
    if let Some(length) = out.get_mut(start + 4..start + 8) {
        length.copy_from_slice(&counts.to_be_bytes());
    }
}

/// Writes the empty buckets from `next` on, then the bucket; gives the bucket after it.
fn put((bucket, count): (usize, u32), next: usize, out: &mut Vec<u8>) -> usize {
    match bucket.saturating_sub(next) {
        0 => {}
        // The library writes a single empty bucket as a count of 0, not as a run.
        1 => out.push(0),
        run => varint(zigzag(-(run as i64)), out),
    }
    varint(zigzag(i64::from(count)), out);
    bucket + 1
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Accepts exactly the payloads that [`encode_buckets`] can write for `expected` requests; allocates
/// nothing.
pub fn check_v2(bytes: &[u8], expected: u64) -> Result<Checked<'_>, HistogramError> {
    if bytes.len() > MAX_BYTES {
        return Err(HistogramError::Length(bytes.len()));
    }
    let Some((header, counts)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(HistogramError::Length(bytes.len()));
    };
    check_header(header, counts.len())?;
    let mut checked = Checked {
        counts,
        least_sum_us: 0,
        most_sum_us: 0,
    };
    let mut found = 0;
    for bucket in (Buckets {
        bytes: counts,
        at: 0,
        bucket: 0,
    }) {
        let (bucket, count) = bucket?;
        found += u64::from(count);
        checked.least_sum_us = checked
            .least_sum_us
            .saturating_add(lowest_us(bucket) * u64::from(count));
        checked.most_sum_us = checked
            .most_sum_us
            .saturating_add(highest_us(bucket) * u64::from(count));
    }
    if found != expected {
        return Err(HistogramError::Sum { found, expected });
    }
    Ok(checked)
}

fn check_header(header: &[u8], counts: usize) -> Result<(), HistogramError> {
    let fields: [(&'static str, &[u8]); 7] = [
        ("cookie", &COOKIE.to_be_bytes()),
        ("length", &(counts as u32).to_be_bytes()),
        ("normalizing offset", &0u32.to_be_bytes()),
        ("significant digits", &u32::from(DIGITS).to_be_bytes()),
        ("lowest value", &LOWEST_US.to_be_bytes()),
        ("highest value", &HIGHEST_US.to_be_bytes()),
        ("ratio", &1f64.to_be_bytes()),
    ];
    let mut rest = header;
    for (name, expected) in fields {
        rest = rest.strip_prefix(expected).ok_or(HistogramError::Header(name))?;
    }
    Ok(())
}

/// Walks the counts. After an error it yields nothing more.
struct Buckets<'a> {
    bytes: &'a [u8],
    at: usize,
    bucket: usize,
}

impl Buckets<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        // A run or a count fits 33 bits in zigzag form: 5 bytes.
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn step(&mut self) -> Option<Option<(usize, u32)>> {
        let raw = self.varint()?;
        let value = (raw >> 1) as i64 ^ -((raw & 1) as i64);
        let bucket = self.bucket;
        self.bucket += if value < 0 {
            usize::try_from(value.unsigned_abs()).ok()?
        } else {
            1
        };
        if self.bucket > bucket_of(HIGHEST_US) + 1 {
            return None;
        }
        if value <= 0 {
            return Some(None);
        }
        Some(Some((bucket, u32::try_from(value).ok()?)))
    }
}

impl Iterator for Buckets<'_> {
    type Item = Result<(usize, u32), HistogramError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.bytes.len() {
            let start = self.at;
            match self.step() {
                Some(None) => {}
                Some(Some(bucket)) => return Some(Ok(bucket)),
                None => {
                    self.at = self.bytes.len();
                    return Some(Err(HistogramError::Counts(start)));
                }
            }
        }
        None
    }
}
