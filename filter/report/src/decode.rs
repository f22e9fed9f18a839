//! Reads a report from bytes that anybody may have sent.

use std::time::Duration;

use prost::Message;

use crate::histogram::{HIGHEST_US, check_v2};
use crate::report::{
    Direction, Head, Identity, Key, Locality, Outcome, Report, Series, Total, Totals, Window,
};
use crate::{DecodeError, OLDEST_VERSION, Problem, VERSION, limits, scan, v1};

/// Reads and checks a report's body. Never panics; allocates at most a small multiple of the body.
///
/// # Errors
/// What a filter could not have built is refused: see [`Problem`].
pub fn decode(body: &[u8]) -> Result<Report, DecodeError> {
    check(body).map_err(|problem| DecodeError {
        echo: scan::echo(body),
        problem,
    })
}

fn check(body: &[u8]) -> Result<Report, Problem> {
    at_most("report", body.len(), limits::MAX_REPORT_BYTES)?;
    let envelope = v1::Envelope::decode(body).map_err(|_| Problem::Malformed { what: "envelope" })?;
    if !(OLDEST_VERSION..=VERSION).contains(&envelope.version) {
        return Err(Problem::Version {
            found: envelope.version,
        });
    }
    at_most("window", envelope.window.len(), limits::MAX_WINDOW_BYTES)?;
    scan::check_counts(&envelope.window)?;
    let window = v1::Window::decode(&*envelope.window).map_err(|_| Problem::Malformed { what: "window" })?;
    Ok(Report {
        head: head(envelope)?,
        window: self::window(window)?,
    })
}

fn head(raw: v1::Envelope) -> Result<Head, Problem> {
    within("vm", raw.vm, 1, u64::MAX)?;
    within("seq", raw.seq, 1, u64::MAX)?;
    within("age_ms", raw.age_ms, 0, limits::MAX_AGE_MS)?;
    let round_trip_us = u64::from(raw.round_trip_us.unwrap_or(0));
    within(
        "round_trip_us",
        round_trip_us,
        0,
        limits::MAX_ROUND_TRIP_US.into(),
    )?;
    Ok(Head {
        vm: raw.vm,
        seq: raw.seq,
        module: text("module", raw.module, limits::MAX_MODULE_BYTES)?,
        config_hash: raw.config_hash,
        age: Duration::from_millis(raw.age_ms),
        // 0 is what clocks of too low a resolution give: no measurement.
        round_trip: (round_trip_us > 0).then(|| Duration::from_micros(round_trip_us)),
    })
}

fn window(raw: v1::Window) -> Result<Window, Problem> {
    within(
        "parts_left",
        raw.parts_left.into(),
        0,
        limits::MAX_PARTS_LEFT.into(),
    )?;
    if raw.node_id.is_empty() {
        return Err(Problem::Field {
            field: "node_id",
            what: "is missing",
        });
    }
    let mut unmeasured = Vec::with_capacity(raw.unmeasured.len());
    for entry in &raw.unmeasured {
        within("unmeasured.count", entry.count, 0, limits::MAX_SUM)?;
        let reason = v1::Reason::try_from(entry.reason).unwrap_or(v1::Reason::Unspecified);
        unmeasured.push((reason, entry.count));
    }
    Ok(Window {
        node_id: text("node_id", raw.node_id, limits::MAX_NODE_ID_BYTES)?,
        duration: Duration::from_millis(raw.duration_ms.into()),
        identity: raw.identity.map(identity).transpose()?,
        series: raw
            .series
            .into_iter()
            .enumerate()
            .map(|(i, s)| series(i, s))
            .collect::<Result<_, _>>()?,
        totals: raw.totals.map(totals).transpose()?,
        unmeasured,
        parts_left: raw.parts_left,
    })
}

fn identity(raw: v1::Identity) -> Result<Identity, Problem> {
    for (key, value) in &raw.labels {
        at_most("identity.labels key", key.len(), limits::MAX_LABEL_KEY_BYTES)?;
        at_most(
            "identity.labels value",
            value.len(),
            limits::MAX_LABEL_VALUE_BYTES,
        )?;
    }
    Ok(Identity {
        namespace: text("identity.namespace", raw.namespace, limits::MAX_NAME_BYTES)?,
        workload: text("identity.workload", raw.workload, limits::MAX_NAME_BYTES)?,
        cluster_id: text("identity.cluster_id", raw.cluster_id, limits::MAX_NAME_BYTES)?,
        locality: raw.locality.map(locality).transpose()?,
        labels: raw.labels,
    })
}

fn locality(raw: v1::Locality) -> Result<Locality, Problem> {
    Ok(Locality {
        region: text("locality.region", raw.region, limits::MAX_LOCALITY_PART_BYTES)?,
        zone: text("locality.zone", raw.zone, limits::MAX_LOCALITY_PART_BYTES)?,
        sub_zone: text("locality.sub_zone", raw.sub_zone, limits::MAX_LOCALITY_PART_BYTES)?,
    })
}

fn key(raw: Option<v1::Key>) -> Result<Key, Problem> {
    let raw = raw.ok_or(Problem::Field {
        field: "key",
        what: "is missing",
    })?;
    let direction = match v1::Direction::try_from(raw.direction) {
        Ok(v1::Direction::Inbound) => Direction::Inbound,
        Ok(v1::Direction::Outbound) => Direction::Outbound,
        Ok(v1::Direction::Unspecified) | Err(_) => {
            return Err(Problem::Field {
                field: "key.direction",
                what: "is unknown",
            });
        }
    };
    let outcome = match v1::Outcome::try_from(raw.outcome) {
        Ok(v1::Outcome::Ok) => Outcome::Ok,
        Ok(v1::Outcome::ClientError) => Outcome::ClientError,
        Ok(v1::Outcome::ServerError) => Outcome::ServerError,
        Ok(v1::Outcome::NoResponse) => Outcome::NoResponse,
        Ok(v1::Outcome::Cancelled) => Outcome::Cancelled,
        Ok(v1::Outcome::Unspecified) | Err(_) => {
            return Err(Problem::Field {
                field: "key.outcome",
                what: "is unknown",
            });
        }
    };
    let named = direction == Direction::Outbound && !raw.overflow;
    if raw.service.is_empty() == named {
        let what = "must be there for outbound keys, and only for those that are no overflow";
        return Err(Problem::Field {
            field: "key.service",
            what,
        });
    }
    let (least, most) = if raw.overflow {
        (0, 0)
    } else {
        (1, u16::MAX.into())
    };
    within("key.port", raw.port.into(), least, most)?;
    Ok(Key {
        direction,
        service: text("key.service", raw.service, limits::MAX_SERVICE_BYTES)?,
        // In range: checked above.
        port: u16::try_from(raw.port).unwrap_or(0),
        subset: text("key.subset", raw.subset, limits::MAX_SUBSET_BYTES)?,
        destination: raw.destination.map(locality).transpose()?,
        outcome,
        overflow: raw.overflow,
        generation: raw.generation,
    })
}

fn series(index: usize, raw: v1::Series) -> Result<Series, Problem> {
    let key = key(raw.key)?;
    within("count", raw.count, 0, limits::MAX_WINDOW_COUNT)?;
    within("long_count", raw.long_count, 0, limits::MAX_WINDOW_COUNT)?;
    within("response_bytes", raw.response_bytes, 0, limits::MAX_SUM)?;
    within("sampled", raw.sampled, 0, raw.count + raw.long_count)?;
    within(
        "sampled_request_bytes",
        raw.sampled_request_bytes,
        0,
        limits::MAX_SUM,
    )?;
    within(
        "sampled_attempts",
        raw.sampled_attempts,
        0,
        raw.sampled * limits::MAX_ATTEMPTS,
    )?;
    let (least, most) = if key.outcome == Outcome::Cancelled || raw.count == 0 {
        if !raw.histogram.is_empty() {
            return Err(Problem::Field {
                field: "histogram",
                what: "is there without requests that have one",
            });
        }
        (0, raw.count.saturating_mul(HIGHEST_US))
    } else {
        let histogram = check_v2(&raw.histogram, raw.count).map_err(|source| Problem::Histogram {
            series: index,
            source,
        })?;
        (
            histogram.least_sum_us,
            histogram.most_sum_us.min(raw.count.saturating_mul(HIGHEST_US)),
        )
    };
    within("sum_us", raw.sum_us, least, most)?;
    Ok(Series {
        key,
        count: raw.count,
        sum_us: raw.sum_us,
        response_bytes: raw.response_bytes,
        long_count: raw.long_count,
        sampled: raw.sampled,
        sampled_request_bytes: raw.sampled_request_bytes,
        sampled_attempts: raw.sampled_attempts,
        histogram: raw.histogram,
    })
}

fn totals(raw: v1::Totals) -> Result<Totals, Problem> {
    within("totals.retired_count", raw.retired_count, 0, limits::MAX_SUM)?;
    within(
        "totals.retired_long_count",
        raw.retired_long_count,
        0,
        limits::MAX_SUM,
    )?;
    within("totals.unmeasured", raw.unmeasured, 0, limits::MAX_SUM)?;
    Ok(Totals {
        keys: raw.keys.into_iter().map(total).collect::<Result<_, _>>()?,
        retired_count: raw.retired_count,
        retired_long_count: raw.retired_long_count,
        unmeasured: raw.unmeasured,
    })
}

fn total(raw: v1::Total) -> Result<Total, Problem> {
    within("totals.count", raw.count, 0, limits::MAX_SUM)?;
    within("totals.long_count", raw.long_count, 0, limits::MAX_SUM)?;
    within(
        "totals.sum_us",
        raw.sum_us,
        0,
        raw.count.saturating_mul(HIGHEST_US).min(limits::MAX_SUM),
    )?;
    Ok(Total {
        key: key(raw.key)?,
        count: raw.count,
        long_count: raw.long_count,
        sum_us: raw.sum_us,
    })
}

fn text(field: &'static str, text: String, limit: usize) -> Result<String, Problem> {
    at_most(field, text.len(), limit)?;
    Ok(text)
}

fn at_most(field: &'static str, found: usize, limit: usize) -> Result<(), Problem> {
    if found > limit {
        Err(Problem::TooLarge { field, found, limit })
    } else {
        Ok(())
    }
}

fn within(field: &'static str, found: u64, least: u64, most: u64) -> Result<(), Problem> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(Problem::OutOfRange {
            field,
            found,
            least,
            most,
        })
    }
}
