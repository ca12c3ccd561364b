//! What people read of a job, the same on the terminal and on the console page: numbers with their units, an event on one
//! line, a plan in rows. Left out: how either lays them out.

mod event;
mod plan;

pub use event::describe;
pub use plan::plan;

/// 1234567 as `1.23 M`.
pub fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", number as f64 / 1e6),
        _ => format!("{:.2} G", number as f64 / 1e9),
    }
}

/// Bytes in decimal units.
pub fn bytes(number: u64) -> String {
    match number {
        0..1_000_000 => format!("{:.0} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", number as f64 / 1e6),
        _ => format!("{:.1} GB", number as f64 / 1e9),
    }
}

/// `1 record`, `2 records`.
pub fn counted(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Seconds as `4.2 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_keep_three_digits() {
        assert_eq!([count(0), count(9_999), count(10_000), count(3_797_248)], ["0", "9999", "10.0 k", "3.80 M"]);
        assert_eq!([bytes(1_500), bytes(15_188_992), bytes(2_500_000_000)], ["2 kB", "15 MB", "2.5 GB"]);
        assert_eq!([counted(1, "record"), counted(0, "step")], ["1 record", "0 steps"]);
        assert_eq!(
            [duration(0.04), duration(9.97), duration(59.6), duration(3_599.0), duration(7_500.0)],
            ["0.0 s", "10 s", "1 min 0 s", "59 min 59 s", "2 h 5 min"]
        );
    }
}
