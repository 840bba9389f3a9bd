//! `--publish` and `--expose`: ports and ranges of ports, as Docker writes them.

use crate::client::PortBinding;

/// First and last.
type Range = (u16, u16);

/// `[[ADDRESS:]PORT[-PORT]:]PORT[-PORT][/PROTOCOL]`, an IPv6 address in brackets: each port of the container's with its place.
///
/// # Errors
/// Why it is none, in Docker's words.
pub(super) fn parse_publish(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (front, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (host_ip, host) = match front.rsplit_once(':') {
        Some((ip, port)) => (ip.trim_start_matches('[').trim_end_matches(']'), port),
        None => ("", front),
    };
    if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {host_ip}"));
    }
    let (range, protocol) = container_ports(container)?;
    let (first, last) = range;
    let host_range = (!host.is_empty()).then(|| port_range(host)).transpose()?;
    let place = |number: u16| match host_range {
        None => String::new(),
        Some((from, to)) if to - from == last - first => (from + (number - first)).to_string(),
        // One port, and any of these for it.
        Some((from, to)) => format!("{from}-{to}"),
    };
    if host_range.is_some_and(|(from, to)| to - from != last - first && first != last) {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let binding = |number| {
        let binding = PortBinding { host_ip: host_ip.to_owned(), host_port: place(number) };
        (format!("{number}/{protocol}"), binding)
    };
    Ok((first..=last).map(binding).collect())
}

/// `PORT[-PORT][/PROTOCOL]`, each with the protocol written out.
///
/// # Errors
/// As [`parse_publish`].
pub(super) fn parse_expose(text: &str) -> Result<Vec<String>, String> {
    let ((first, last), protocol) = container_ports(text)?;
    Ok((first..=last).map(|number| format!("{number}/{protocol}")).collect())
}

fn container_ports(text: &str) -> Result<(Range, String), String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match protocol.to_ascii_lowercase().as_str() {
        protocol @ ("tcp" | "udp" | "sctp") => Ok((port_range(ports)?, protocol.to_owned())),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn port_range(text: &str) -> Result<Range, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |port: &str| port.parse::<u16>().ok().filter(|number| *number > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err(format!("invalid port range: {text}")),
        _ => Err(format!("invalid port: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        let show = |(port, binding): (String, PortBinding)| {
            format!("{}:{}:{port}", binding.host_ip, binding.host_port)
        };
        parse_publish(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn ports_have_addresses_and_protocols() {
        for (text, expected) in [
            ("80", "::80/tcp"),
            ("8080:80", ":8080:80/tcp"),
            ("127.0.0.1:53:53/UDP", "127.0.0.1:53:53/udp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[::1]:1:2", "::1:1:2/tcp"),
            ("8000-9000:80", ":8000-9000:80/tcp"),
        ] {
            assert_eq!(all(text), [expected], "{text}");
        }
    }

    #[test]
    fn ranges_are_port_by_port() {
        assert_eq!(all("8000-8002:80-82/udp"), [":8000:80/udp", ":8001:81/udp", ":8002:82/udp"]);
        assert_eq!(all("127.0.0.1::80-81"), ["127.0.0.1::80/tcp", "127.0.0.1::81/tcp"]);
        assert_eq!(parse_expose("65534-65535"), Ok(vec!["65534/tcp".to_owned(), "65535/tcp".to_owned()]));
    }

    #[test]
    fn what_is_none_is_refused() {
        for wrong in [
            "",
            "0",
            "x",
            "1:70000",
            "nowhere:1:2",
            "80/icmp",
            "1-2:3-5",
            "5:3-5",
            "3-2",
            "1-",
            "-1",
            "1-x:1",
            "0-1",
        ] {
            assert!(parse_publish(wrong).is_err(), "{wrong}");
        }
    }
}
