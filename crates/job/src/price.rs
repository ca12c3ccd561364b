//! What an hour of the user's own machine costs, in a currency of their own choice; and with it what a run cost.

use std::fmt;
use std::str::FromStr;

/// A price per hour, such as `0.35 EUR`.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    per_hour: f64,
    /// As the user wrote it; may be empty.
    currency: String,
}

/// Why a text is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no price per hour; write a number and, if you like, a currency after it, such as 0.35 or \"0.35 EUR\""
)]
pub struct PriceError(String);

impl Price {
    /// What `seconds` cost, with the currency: two digits after the point, and more for less than one.
    #[must_use]
    pub fn of(&self, seconds: f64) -> String {
        let cost = self.per_hour * seconds / 3600.0;
        let amount = if cost >= 1.0 || cost == 0.0 { format!("{cost:.2}") } else { format!("{cost:.4}") };
        format!("{amount} {}", self.currency).trim_end().to_string()
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        const LONGEST_CURRENCY: usize = 8;
        let wrong = || PriceError(text.to_string());
        let trimmed = text.trim();
        let end = trimmed.find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, currency) = trimmed.split_at(end.unwrap_or(trimmed.len()));
        let currency = currency.trim();
        let per_hour: f64 = number.parse().map_err(|_| wrong())?;
        let is_currency = currency.chars().count() <= LONGEST_CURRENCY
            && currency
                .chars()
                .all(|character| !character.is_control() && !character.is_ascii_digit() && character != '-');
        if !per_hour.is_finite() || !is_currency {
            return Err(wrong());
        }
        Ok(Self { per_hour, currency: currency.to_string() })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self.currency.as_str() {
            "" => write!(formatter, "{}", self.per_hour),
            currency => write!(formatter, "{} {currency}", self.per_hour),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_and_prices_time() {
        let price = |text: &str| text.parse::<Price>();
        assert_eq!(price("3.6").unwrap().of(1000.0), "1.00");
        assert_eq!(price("0.36 EUR").unwrap().of(3_600.0), "0.3600 EUR");
        assert_eq!(price("2$").unwrap().of(7_200.0), "4.00 $");
        assert_eq!(price("2").unwrap().of(0.0), "0.00");
        assert_eq!((price("2").unwrap().to_string(), price("2$").unwrap().to_string()), ("2".into(), "2 $".into()));
        for text in ["", "EUR", "-1", "1e400", "1.2.3", "1 2", "1 a very long currency", "nan"] {
            assert!(price(text).unwrap_err().to_string().contains("is no price per hour"), "{text}");
        }
    }
}
