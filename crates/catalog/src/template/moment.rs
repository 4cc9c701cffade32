//! `${now…}`: the hour, shifted and formatted with the tokens of Day.js, in UTC.

use std::fmt::Write as _;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A compiled `${now}` expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    shift: Option<(i64, Unit)>,
    /// None writes ISO 8601 with milliseconds.
    format: Option<Vec<Piece>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Token(Token),
}

macro_rules! tokens {
    ($($name:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Token { $($name,)* }

        impl Token {
            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

tokens! {
    Year4 = "YYYY", Year2 = "YY",
    MonthName = "MMMM", MonthShort = "MMM", Month2 = "MM", Month = "M",
    Day2 = "DD", Day = "D",
    WeekdayName = "dddd", WeekdayShort = "ddd", WeekdayMin = "dd", Weekday = "d",
    Hour2 = "HH", Hour = "H", HalfHour2 = "hh", HalfHour = "h",
    Minute2 = "mm", Minute = "m", Second2 = "ss", Second = "s", Millis = "SSS",
    OffsetCompact = "ZZ", Offset = "Z", MeridiemUpper = "A", MeridiemLower = "a",
    UnixSeconds = "X", UnixMillis = "x",
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Moment {
    /// Reads what follows `now`: nothing, `:FORMAT`, or `±N:unit[:FORMAT]`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (shift, format) = match text.as_bytes().first() {
            Some(b'+' | b'-') => {
                let mut pieces = text.splitn(3, ':');
                let amount = pieces.next().unwrap_or_default();
                let amount: i64 = amount
                    .parse()
                    .ok()
                    .filter(|amount: &i64| amount.abs() <= 1_000_000_000)
                    .ok_or_else(|| format!("`{amount}` is no number of units"))?;
                let unit = pieces.next().unwrap_or_default();
                let unit = Unit::parse(unit)
                    .ok_or_else(|| format!("`{unit}` is no unit of time; write minutes, hours, days …"))?;
                (Some((amount, unit)), pieces.next())
            }
            Some(b':') => (None, Some(&text[1..])),
            _ => (None, None),
        };
        let format = format.map(pieces).transpose()?;
        Ok(Self { shift, format })
    }

    /// The text of the shifted `now`.
    pub fn format(&self, now: Timestamp) -> String {
        let time = self.shift.map_or(now, |(amount, unit)| unit.shift(now, amount));
        let Some(pieces) = &self.format else {
            return patchbay_types::time::millis_z(time);
        };
        let civil = TimeZone::UTC.to_datetime(time);
        let mut text = String::with_capacity(32);
        for piece in pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Token(token) => token.write(&mut text, time, civil),
            }
        }
        text
    }
}

impl Unit {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ms" | "millisecond" | "milliseconds" => Self::Millisecond,
            "s" | "second" | "seconds" => Self::Second,
            "m" | "minute" | "minutes" => Self::Minute,
            "h" | "hour" | "hours" => Self::Hour,
            "d" | "D" | "day" | "days" => Self::Day,
            "w" | "week" | "weeks" => Self::Week,
            "M" | "month" | "months" => Self::Month,
            "Q" | "quarter" | "quarters" => Self::Quarter,
            "y" | "year" | "years" => Self::Year,
            _ => return None,
        })
    }

    /// Months and longer keep the day of the month where there is one; out of the calendar's range stays put.
    fn shift(self, time: Timestamp, amount: i64) -> Timestamp {
        let span = match self {
            Self::Millisecond => Span::new().try_milliseconds(amount),
            Self::Second => Span::new().try_seconds(amount),
            Self::Minute => Span::new().try_minutes(amount),
            Self::Hour => Span::new().try_hours(amount),
            Self::Day => Span::new().try_days(amount),
            Self::Week => Span::new().try_weeks(amount),
            Self::Month => Span::new().try_months(amount),
            Self::Quarter => Span::new().try_months(amount.saturating_mul(3)),
            Self::Year => Span::new().try_years(amount),
        };
        span.and_then(|span| time.to_zoned(TimeZone::UTC).checked_add(span))
            .map_or(time, |shifted| shifted.timestamp())
    }
}

impl Token {
    fn write(self, text: &mut String, time: Timestamp, civil: DateTime) {
        let half_hour = match civil.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let weekday = usize::try_from(civil.weekday().to_sunday_zero_offset()).unwrap_or_default();
        let month = usize::try_from(civil.month() - 1).unwrap_or_default();
        let meridiem = if civil.hour() < 12 { "AM" } else { "PM" };
        let result = match self {
            Self::Year4 => write!(text, "{:04}", civil.year()),
            Self::Year2 => write!(text, "{:02}", civil.year().rem_euclid(100)),
            Self::MonthName => text.write_str(MONTHS[month]),
            Self::MonthShort => text.write_str(&MONTHS[month][..3]),
            Self::Month2 => write!(text, "{:02}", civil.month()),
            Self::Month => write!(text, "{}", civil.month()),
            Self::Day2 => write!(text, "{:02}", civil.day()),
            Self::Day => write!(text, "{}", civil.day()),
            Self::WeekdayName => text.write_str(WEEKDAYS[weekday]),
            Self::WeekdayShort => text.write_str(&WEEKDAYS[weekday][..3]),
            Self::WeekdayMin => text.write_str(&WEEKDAYS[weekday][..2]),
            Self::Weekday => write!(text, "{weekday}"),
            Self::Hour2 => write!(text, "{:02}", civil.hour()),
            Self::Hour => write!(text, "{}", civil.hour()),
            Self::HalfHour2 => write!(text, "{half_hour:02}"),
            Self::HalfHour => write!(text, "{half_hour}"),
            Self::Minute2 => write!(text, "{:02}", civil.minute()),
            Self::Minute => write!(text, "{}", civil.minute()),
            Self::Second2 => write!(text, "{:02}", civil.second()),
            Self::Second => write!(text, "{}", civil.second()),
            Self::Millis => write!(text, "{:03}", civil.millisecond()),
            Self::OffsetCompact => text.write_str("+0000"),
            Self::Offset => text.write_str("+00:00"),
            Self::MeridiemUpper => text.write_str(meridiem),
            Self::MeridiemLower => text.write_str(&meridiem.to_ascii_lowercase()),
            Self::UnixSeconds => write!(text, "{}", time.as_millisecond().div_euclid(1000)),
            Self::UnixMillis => write!(text, "{}", time.as_millisecond()),
        };
        result.expect("writing to a string cannot fail");
    }
}

fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    if format.is_empty() {
        return Err("the format after `:` is empty".to_owned());
    }
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if first == '['
            && let Some(end) = rest.find(']').filter(|end| *end > 1)
        {
            push_text(&mut pieces, &rest[1..end]);
            rest = &rest[end + 1..];
            continue;
        }
        let longest = match first {
            'Y' | 'M' | 'd' => 4,
            'D' | 'H' | 'h' | 'm' | 's' | 'Z' => 2,
            'a' | 'A' | 'X' | 'x' => 1,
            'S' if rest.starts_with("SSS") => 3,
            _ => 0,
        };
        let run = rest.chars().take_while(|c| *c == first).count().min(longest);
        if run == 0 {
            push_text(&mut pieces, &rest[..first.len_utf8()]);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let token =
            Token::parse(&rest[..run]).ok_or_else(|| format!("`{}` is no token of a date", &rest[..run]))?;
        pieces.push(Piece::Token(token));
        rest = &rest[run..];
    }
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}
