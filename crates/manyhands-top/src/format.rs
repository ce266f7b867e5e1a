//! Numbers for people: three or four letters that say how much.

/// Seconds: `420µs`, `3.1ms`, `12.4s`, `3m08s`, `2h05m`, `4d11h`.
pub(crate) fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 0.000_999_5 => format!("{:.0}µs", s * 1e6),
        s if s < 0.009_995 => format!("{:.1}ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0}ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1}s"),
        _ if whole < 3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ if whole < 86_400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Bytes: `512 B`, `1.2 KiB`, `340 MiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let mut value = bytes;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 999.5 {
        let Some(next) = units.next() else { break };
        unit = next;
        value /= 1024.0;
    }
    match unit {
        "B" => format!("{value:.0} B"),
        _ if value < 9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// Tasks a second: `0/s`, `0.4/s`, `12/s`, `84.1k/s`.
pub(crate) fn rate(rate: f64) -> String {
    match rate {
        r if r <= 0.0 => "0/s".to_owned(),
        r if r < 9.95 => format!("{r:.1}/s"),
        r if r < 9_999.5 => format!("{r:.0}/s"),
        r => format!("{:.1}k/s", r / 1e3),
    }
}

/// A whole number with separators.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share: `97%`.
pub(crate) fn share(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_say_their_unit() {
        let times = [
            0.0, 0.000_42, 0.003_1, 0.42, 12.44, 59.96, 188.0, 7_500.0, 385_300.0,
        ];
        assert_eq!(
            times.map(time),
            [
                "0µs", "420µs", "3.1ms", "420ms", "12.4s", "1m00s", "3m08s", "2h05m", "4d11h"
            ]
        );
        assert_eq!(
            [0.0, 512.0, 1_200.0, 356_515_840.0, 1e300].map(bytes)[..4],
            ["0 B", "512 B", "1.2 KiB", "340 MiB"]
        );
        assert_eq!(
            [0.0, 0.41, 12.0, 84_100.0].map(rate),
            ["0/s", "0.4/s", "12/s", "84.1k/s"]
        );
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(share(0.966), "97%");
    }
}
