//! What became of a request: from Envoy's response code, its response flags and the gRPC status.

use gma_report::v1::Outcome;

/// Envoy's response flags (bits of `response.flags`) that mean that no upstream answered:
/// UH no healthy upstream, UF connection failure, UC connection termination, UR remote reset,
/// UT request timeout, UO overflow.
const NOTHING_ANSWERED: i64 = UPSTREAM_TIMEOUT | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;
const UPSTREAM_TIMEOUT: i64 = 1 << 2;

/// gRPC codes that are the server's fault: cancelled, unknown, deadline exceeded, resource exhausted,
/// unimplemented, internal, unavailable, data loss. The first of them is the server's too: a client
/// that cancels leaves no status.
const GRPC_SERVER_ERRORS: [u32; 8] = [1, 2, 4, 8, 12, 13, 14, 15];

/// What a response code says, and what else must be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Decided.
    Decided(Outcome),
    /// A plain 200: gRPC says in its status what became of the call.
    AskGrpc,
    /// 502, 503, 504: the application's own, or Envoy's because nothing answered.
    AskFlags,
}

/// Reads a response code; 0 or none means that the client left before there was one.
pub(crate) fn of_code(code: Option<i64>) -> Verdict {
    Verdict::Decided(match code {
        None | Some(0) => Outcome::Cancelled,
        Some(200) => return Verdict::AskGrpc,
        Some(502..=504) => return Verdict::AskFlags,
        Some(..=399) => Outcome::Ok,
        Some(400..=499) => Outcome::ClientError,
        Some(500..) => Outcome::ServerError,
    })
}

/// The outcome of a 502, 503 or 504.
pub(crate) fn of_flags(flags: i64) -> Outcome {
    if flags & NOTHING_ANSWERED == 0 {
        Outcome::ServerError
    } else {
        Outcome::NoResponse
    }
}

/// The outcome of a call whose gRPC status is known. A text that is no number is what gRPC itself makes
/// of it: unknown, the server's error.
pub(crate) fn of_grpc(status: &[u8]) -> Outcome {
    match str::from_utf8(status)
        .ok()
        .and_then(|text| text.trim().parse().ok())
    {
        Some(0) => Outcome::Ok,
        Some(code) if !GRPC_SERVER_ERRORS.contains(&code) => Outcome::ClientError,
        _ => Outcome::ServerError,
    }
}

/// Which 200 answers of a cluster are asked for a gRPC status: a cluster that has shown one, always; else
/// its first 16, then 1 in 64, so that plain HTTP pays for two absent properties once in 64 requests only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrpcProbe {
    answers: u32,
    shown: bool,
}

const FIRST_ASKED: u32 = 16;
const THEN_ONE_IN: u32 = 64;

impl GrpcProbe {
    /// Counts a 200 answer and says whether it is asked.
    pub(crate) fn asks(&mut self) -> bool {
        let number = self.answers;
        self.answers = self.answers.wrapping_add(1);
        self.shown || number < FIRST_ASKED || number.is_multiple_of(THEN_ONE_IN)
    }

    /// The cluster has shown a gRPC status.
    pub(crate) fn show(&mut self) {
        self.shown = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_outcome() {
        let table = [
            (None, Outcome::Cancelled),
            (Some(0), Outcome::Cancelled),
            (Some(101), Outcome::Ok),
            (Some(204), Outcome::Ok),
            (Some(304), Outcome::Ok),
            (Some(400), Outcome::ClientError),
            (Some(499), Outcome::ClientError),
            (Some(500), Outcome::ServerError),
            (Some(501), Outcome::ServerError),
            (Some(505), Outcome::ServerError),
        ];
        for (code, outcome) in table {
            assert_eq!(of_code(code), Verdict::Decided(outcome), "{code:?}");
        }
        assert_eq!(of_code(Some(200)), Verdict::AskGrpc);
        for code in 502..=504 {
            assert_eq!(of_code(Some(code)), Verdict::AskFlags);
        }
    }

    #[test]
    fn flags_tell_silence_from_an_answer() {
        for flag in [0x2, 0x4, 0x10, 0x20, 0x40, 0x80] {
            assert_eq!(of_flags(flag), Outcome::NoResponse, "{flag:#x}");
            assert_eq!(of_flags(flag | 0x8), Outcome::NoResponse, "{flag:#x}");
        }
        for flag in [0, 0x1, 0x8, 0x100, 0x400, 0x800] {
            assert_eq!(of_flags(flag), Outcome::ServerError, "{flag:#x}");
        }
    }

    #[test]
    fn grpc_statuses_are_the_servers_or_the_clients() {
        assert_eq!(of_grpc(b"0"), Outcome::Ok);
        for status in 1..=16 {
            let server = [1, 2, 4, 8, 12, 13, 14, 15].contains(&status);
            let expected = if server {
                Outcome::ServerError
            } else {
                Outcome::ClientError
            };
            assert_eq!(of_grpc(status.to_string().as_bytes()), expected, "{status}");
        }
        assert_eq!(of_grpc(b"x"), Outcome::ServerError);
    }

    #[test]
    fn plain_http_is_asked_seldom_and_grpc_always() {
        let mut probe = GrpcProbe::default();
        let asked = (0..6400).filter(|_| probe.asks()).count();
        assert_eq!(asked, 16 + 99);
        probe.show();
        assert!((0..100).all(|_| probe.asks()));
    }
}
