//! How fast a container may be on a network, by the options that ask for it: of its endpoint, or else of the network.
//!
//! Bytes a second and bytes at once, as seen from the container. The machine's card keeps to them; nothing on the host's side
//! does.

use std::collections::BTreeMap;

use berth_vmm::config::{CardRates, MAX_RATE, Rate};

use super::super::error::EngineError;

const IN: &str = "berth.rate.in";
const OUT: &str = "berth.rate.out";
const IN_BURST: &str = "berth.burst.in";
const OUT_BURST: &str = "berth.burst.out";

/// Of a second, if nobody says what may pass at once.
const BURST_PARTS: u64 = 10;
/// At least one packet of the longest kind.
const MIN_BURST_BYTES: u64 = 64 << 10;

/// What an endpoint's options and its network's mean together; the endpoint's win.
///
/// # Errors
/// A value that is none, or a burst of no rate.
pub(super) fn rates(
    of_network: &BTreeMap<String, String>,
    of_endpoint: &BTreeMap<String, String>,
) -> Result<CardRates, EngineError> {
    let mut options = of_network.clone();
    options.extend(of_endpoint.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(CardRates { to_guest: rate(&options, IN, IN_BURST)?, to_network: rate(&options, OUT, OUT_BURST)? })
}

/// An endpoint's options by themselves.
///
/// # Errors
/// As [`rates`], and an option that nobody has.
pub(crate) fn check_endpoint_options(options: &BTreeMap<String, String>) -> Result<(), EngineError> {
    if let Some(unknown) = options.keys().find(|name| !is_known(name)) {
        return Err(EngineError::invalid(format!(
            "unknown driver option {unknown}: {IN}, {OUT}, {IN_BURST} and {OUT_BURST} are possible"
        )));
    }
    // A burst may be of a rate that the network has.
    for name in options.keys() {
        bytes(options, name)?;
    }
    Ok(())
}

pub(super) fn is_known(name: &str) -> bool {
    [IN, OUT, IN_BURST, OUT_BURST].contains(&name)
}

fn rate(
    options: &BTreeMap<String, String>,
    name: &str,
    burst_name: &str,
) -> Result<Option<Rate>, EngineError> {
    match (bytes(options, name)?, bytes(options, burst_name)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(EngineError::invalid(format!("{burst_name} takes {name} beside it"))),
        (Some(bytes_per_second), burst) => {
            let burst_bytes = burst.unwrap_or((bytes_per_second / BURST_PARTS).max(MIN_BURST_BYTES));
            Ok(Some(Rate { bytes_per_second, burst_bytes }))
        }
    }
}

fn bytes(options: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, EngineError> {
    let Some(text) = options.get(name) else { return Ok(None) };
    let bytes = parse(text).filter(|bytes| (1..=MAX_RATE).contains(bytes));
    bytes.map(Some).ok_or_else(|| {
        EngineError::invalid(format!(
            "invalid value for {name}: {text:?} is no number of bytes like 500k, 10m or 1g, 1 to {MAX_RATE}"
        ))
    })
}

/// As `--device-write-bps` reads them: a number, and perhaps a power of 1024.
fn parse(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(network: &[(&str, &str)], endpoint: &[(&str, &str)]) -> Result<CardRates, String> {
        rates(&options(network), &options(endpoint)).map_err(|error| error.message)
    }

    #[test]
    fn an_endpoints_options_win_over_its_networks() {
        let rate = |bytes_per_second, burst_bytes| Some(Rate { bytes_per_second, burst_bytes });
        assert_eq!(read(&[], &[]), Ok(CardRates::default()));
        let both = CardRates { to_guest: rate(1 << 20, 104_857), to_network: rate(512, 64 << 10) };
        assert_eq!(read(&[("berth.rate.in", "1m"), ("berth.rate.out", "512")], &[]), Ok(both));
        let other = CardRates { to_guest: rate(2 << 30, 7 << 10), to_network: None };
        let endpoint = [("berth.rate.in", "2GiB"), ("berth.burst.in", "7k")];
        assert_eq!(read(&[("berth.rate.in", "1m")], &endpoint), Ok(other));
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        for value in ["", "0", "-1", "1.5m", "m", "1t", "18446744073709551615", "17179869184g", "1 m"] {
            let message = read(&[], &[("berth.rate.out", value)]).unwrap_err();
            assert!(message.starts_with("invalid value for berth.rate.out"), "{value}: {message}");
        }
        assert!(read(&[], &[("berth.burst.in", "1m")]).unwrap_err().contains("takes berth.rate.in"));
        let unknown = check_endpoint_options(&options(&[("com.example.x", "1")])).unwrap_err();
        assert!(unknown.message.contains("com.example.x") && unknown.message.contains("berth.burst.out"));
        assert!(check_endpoint_options(&options(&[("berth.rate.in", "x")])).is_err());
        assert_eq!(check_endpoint_options(&options(&[("berth.burst.in", "1m")])), Ok(()));
    }
}
