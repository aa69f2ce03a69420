//! Times of signed documents: whole seconds of UTC in one spelling (SPEC 2.5).
//!
//! Nothing here asks what time it is. Whoever compares decides which clock, if any, to believe.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;
/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

/// A second of UTC from 1970 to 9999, written `2026-01-02T03:04:05Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(u64);

/// Says why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a time such as 2026-01-02T03:04:05Z")]
pub struct TimeError {
    /// The text that was refused, cut to 40 characters.
    pub found: String,
}

impl Time {
    /// Makes a time of seconds since 1970; what is later than the year 9999 becomes its last second.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(if seconds > LAST { LAST } else { seconds })
    }

    /// Returns the seconds since 1970, leap seconds not counted.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text).ok_or_else(|| TimeError {
            found: text.chars().take(40).collect(),
        })
    }
}

impl TryFrom<String> for Time {
    type Error = TimeError;

    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / DAY, self.0 % DAY);
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        let mut day = days - days_before(year);
        let mut month = 1;
        while month < 12 && day >= days_of(year, month) {
            day -= days_of(year, month);
            month += 1;
        }
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let date = format!("{year:04}-{month:02}-{:02}", day + 1);
        write!(f, "{date}T{hour:02}:{minute:02}:{:02}Z", second % 60)
    }
}

/// Reads the one spelling: other offsets, fractions and lower case would be further spellings.
fn parse(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let punctuation = [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'Z'),
    ];
    if bytes.len() != 20 || punctuation.iter().any(|(at, c)| bytes.get(*at) != Some(c)) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let date = year >= 1970 && (1..=12).contains(&month);
    if !date || day == 0 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_before(year) + (1..month).map(|m| days_of(year, m)).sum::<u64>() + day - 1;
    Some(Time(days * DAY + hour * 3600 + minute * 60 + second))
}

/// Days from 1970 to the first of January of a year from 1970 on.
const fn days_before(year: u64) -> u64 {
    let last = year - 1;
    (year - 1970) * 365 + (last / 4 - last / 100 + last / 400)
        - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

const fn days_of(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        // As `date -u -d @SECONDS +%FT%TZ` writes them.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_323_045, "2026-01-02T03:04:05Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(text.parse(), Ok(Time(seconds)), "{text}");
            assert_eq!(Time(seconds).to_string(), text);
        }
        assert_eq!(Time::from_seconds(u64::MAX), Time(LAST));
    }

    #[test]
    fn every_day_survives_the_round_trip() {
        for day in (0..LAST / DAY).step_by(13) {
            let time = Time(day * DAY + day % DAY);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05z",
            "2026-01-02t03:04:05Z",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05.0Z",
            "2026-01-02T03:04:05+00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:60:05Z",
            "2026-01-02T03:04:60Z",
            "1969-12-31T23:59:59Z",
            "+026-01-02T03:04:05Z",
            "2026-01-02T03:04:0\u{b2}Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
