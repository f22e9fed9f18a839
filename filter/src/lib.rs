//! GMA.
