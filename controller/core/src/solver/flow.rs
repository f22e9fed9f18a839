//! How many calls a service may have at an edge, as long as not all is decided.

/// Possible numbers of calls that are looked at one by one.
const MANY: usize = 8;

/// Calls of a service at the edge per user request, were it there: certain ones, at least where there are any, at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    pub(super) sure: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// All numbers of calls that are possible, where they are few.
    pub(super) points: Points,
}

/// Up to [`MANY`] numbers; none: more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Points {
    count: Option<u8>,
    values: [f64; MANY],
}

// === impl Points ===

impl Points {
    pub(super) fn get(&self) -> Option<&[f64]> {
        self.values.get(..usize::from(self.count?))
    }

    /// One more value each.
    pub(super) fn with(mut self, base: f64, more: &[f64]) -> Self {
        let mut count = usize::from(self.count.unwrap_or_default());
        for one in more {
            match self.values.get_mut(count) {
                Some(value) => *value = base + one,
                None => return Self::default(),
            }
            count += 1;
        }
        self.count = u8::try_from(count).ok();
        self
    }

    pub(super) fn scaled(mut self, factor: f64) -> Self {
        self.values.iter_mut().for_each(|value| *value *= factor);
        self
    }

    /// All sums with `factor` times one of `more` or, where that is not certain, with nothing.
    pub(super) fn and(&self, more: &Self, factor: f64, certain: bool) -> Self {
        let (Some(known), Some(_), more) = (self.get(), more.get(), more.scaled(factor)) else {
            return Self::default();
        };
        let none = Self {
            count: Some(0),
            ..Self::default()
        };
        let start = if certain { none } else { *self };
        known.iter().fold(start, |all, base| match all.count {
            Some(_) => all.with(*base, more.get().unwrap_or_default()),
            None => all,
        })
    }
}
