//! Values of options: text to number, with an error that says what to type. Pure.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;

use super::args::Format;
use crate::base::Pid;

/// A process or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All digits.
    Pid(Pid),
    /// Anything else; a file named `42` is `./42`.
    File(PathBuf),
}

/// Smallest `--mem`: two blocks with counters for a few thousand probes.
const MIN_MEM: u64 = 1 << 20;
const MAX_MEM: u64 = 1 << 40;
/// Longest `--duration`; more is as good as none.
const MAX_SECONDS: f64 = 1e9;

/// Reads a process number.
pub(super) fn pid(text: &str) -> Result<Pid, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(Pid(n)),
        _ => Err(
            "this is no process number; by name: --name NAME; to start a command: kptrace run \
             [OPTIONS] -- CMD"
                .to_owned(),
        ),
    }
}

/// Reads a process number where nothing else could be meant.
pub(super) fn process(text: &str) -> Result<Pid, String> {
    let number = text.parse().ok().filter(|&n: &i32| n > 0);
    let number = number.ok_or("a process number is expected, as pgrep prints it");
    Ok(Pid(number?))
}

/// Reads a process number or the name of a file.
pub(super) fn target(text: &OsStr) -> Target {
    let digits = |t: &&str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    match text.to_str().filter(digits).and_then(|t| pid(t).ok()) {
        Some(pid) => Target::Pid(pid),
        None => Target::File(text.into()),
    }
}

/// Reads seconds, with a fraction or without.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(n) if n > 0.0 && n <= MAX_SECONDS => Ok(Duration::from_secs_f64(n)),
        _ => Err("seconds are expected, as in 10 or 0.5".to_owned()),
    }
}

/// Reads a format and the file it is written to: `chrome=trace.json`.
pub(super) fn another(text: &str) -> Result<(Format, PathBuf), String> {
    let (format, path) = text
        .split_once('=')
        .filter(|(_, path)| !path.is_empty())
        .ok_or("a format and a file are expected, as in chrome=trace.json")?;
    Ok((Format::from_str(format, false)?, PathBuf::from(path)))
}

/// Reads a short time: `500`, nanoseconds, or with a unit.
pub(super) fn nanoseconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "ns" | "nsec" => 1.0,
        "us" | "µs" | "usec" => 1e3,
        "ms" | "msec" => 1e6,
        "s" | "sec" => 1e9,
        _ => f64::NAN,
    };
    match digits.parse::<f64>().map(|n| n * unit) {
        Ok(n) if (0.0..=MAX_SECONDS * 1e9).contains(&n) => Ok(n.round() as u64),
        _ => Err("a time is expected, as in 500ns, 10us, 1.5ms or 2s".to_owned()),
    }
}

/// Reads a size in bytes: `64M`, `512K`, `1G`, `65536`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let number = upper.trim_end_matches("IB").trim_end_matches('B');
    let (digits, shift) = match number.char_indices().last() {
        Some((at, 'K')) => (number.get(..at), 10),
        Some((at, 'M')) => (number.get(..at), 20),
        Some((at, 'G')) => (number.get(..at), 30),
        _ => (Some(number), 0),
    };
    let bytes = digits
        .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|d| d.parse::<u64>().ok())
        .and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(n) if (MIN_MEM..=MAX_MEM).contains(&n) => Ok(n),
        Some(_) => Err("a size from 1M to 1024G is expected".to_owned()),
        None => Err("a size is expected, as in 64M or 1G".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("1g", 1 << 30),
            ("2048KiB", 2 << 20),
            ("1048576", 1 << 20),
            ("8MB", 8 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "0",
            "1K",
            "-1M",
            "1.5M",
            "99999999999999999999",
            "20000000G",
            "+8M",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_positive_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("10s"), Ok(Duration::from_secs(10)));
        for text in ["0", "-1", "inf", "nan", "1e300", "", "ten"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn short_times_have_units() {
        for (text, time) in [
            ("500", 500),
            ("7ns", 7),
            ("10us", 10_000),
            ("1.5ms", 1_500_000),
            ("2s", 2_000_000_000),
        ] {
            assert_eq!(nanoseconds(text), Ok(time), "{text}");
        }
        for text in ["", "us", "-1us", "1 us", "1h", "inf", "nan", "1e99s"] {
            assert!(nanoseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn another_format_has_a_file() {
        let chrome = (Format::Chrome, PathBuf::from("a=b.json"));
        assert_eq!(another("chrome=a=b.json"), Ok(chrome));
        for text in ["", "chrome", "chrome=", "=a", "perfetto=a"] {
            assert!(another(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_is_a_process_and_anything_else_a_file() {
        assert_eq!(target(OsStr::new("42")), Target::Pid(Pid(42)));
        for file in ["./42", "/bin/ls", "0", "99999999999"] {
            assert_eq!(target(OsStr::new(file)), Target::File(file.into()));
        }
    }
}
