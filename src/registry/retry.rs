//! Repeats what failed for a passing reason.
//!
//! Waits double from a base and carry no jitter, so that a run can be repeated exactly; a
//! registry's `Retry-After` replaces the wait but cannot hold us longer than a cap.

use std::thread;
use std::time::{Duration, SystemTime};

use super::error::RegistryError;

/// Longest wait of our own.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Longest wait a registry may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often and how patiently to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// Tries in all, at least one.
    pub(super) attempts: u32,
    /// First wait.
    pub(super) backoff: Duration,
}

impl Retry {
    /// Calls `attempt` until it succeeds, fails for good, or the tries are used up.
    pub(super) fn run<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut failures = 0;
        loop {
            let error = match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            if !error.is_transient() || !self.wait(failures, &error) {
                return Err(error);
            }
        }
    }

    /// Sleeps before the next try; returns `false` when there is none after so many failures.
    pub(super) fn wait(&self, failures: u32, error: &RegistryError) -> bool {
        if failures >= self.attempts {
            return false;
        }
        thread::sleep(self.pause(failures, error.retry_after()));
        true
    }

    fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = 1u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let own = self.backoff.saturating_mul(doubled).min(MAX_BACKOFF);
        asked.map_or(own, |asked| asked.min(MAX_RETRY_AFTER))
    }
}

/// Parses `Retry-After`: seconds, or a date compared with `now`.
pub(super) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap() {
        let retry = Retry {
            attempts: 9,
            backoff: Duration::from_millis(500),
        };
        for (failures, asked, expected) in [
            (1, None, 500),
            (2, None, 1000),
            (3, None, 2000),
            (7, None, 30_000),
            (200, None, 30_000),
            (1, Some(2), 2000),
            (1, Some(0), 0),
            (1, Some(86_400), 60_000),
        ] {
            let pause = retry.pause(failures, asked.map(Duration::from_secs));
            assert_eq!(
                pause,
                Duration::from_millis(expected),
                "{failures} {asked:?}"
            );
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                parse_retry_after(value, now),
                expected.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    #[test]
    fn only_passing_failures_are_repeated() {
        let retry = Retry {
            attempts: 3,
            backoff: Duration::ZERO,
        };
        let mut calls = 0;
        let broken = || RegistryError::Cut {
            object: "x".into(),
            received: 0,
            expected: 1,
        };
        let result: Result<(), _> = retry.run(|| {
            calls += 1;
            Err(broken())
        });
        assert!(matches!(result, Err(RegistryError::Cut { .. })));
        assert_eq!(calls, 3);
        let mut calls = 0;
        let result: Result<(), _> = retry.run(|| {
            calls += 1;
            Err(RegistryError::NotFound { object: "x".into() })
        });
        assert!(matches!(result, Err(RegistryError::NotFound { .. })));
        assert_eq!(calls, 1);
    }
}
