//! `--network`: the network that a container joins and what it is to have there, as fields between commas, or its name alone.
//! Which of that a network can have is the daemon's to say.

use super::OptionError;
use super::mount::fields;
use crate::client::{EndpointAddresses, EndpointSettings};

/// A network to join.
#[derive(Debug, Default)]
pub(super) struct Attachment {
    pub(super) network: String,
    /// Without addresses.
    pub(super) settings: EndpointSettings,
    pub(super) addresses: EndpointAddresses,
}

impl Attachment {
    pub(super) fn settings(self) -> EndpointSettings {
        let asked = self.addresses != EndpointAddresses::default();
        EndpointSettings { ipam_config: asked.then_some(self.addresses), ..self.settings }
    }
}

/// Those that `--network` names, the first with what flags of their own say of it. Without any there is one without a name.
///
/// # Errors
/// One that is none, or one thing said in two ways.
pub(super) fn attachments(given: &[String], of_first: &Attachment) -> Result<Vec<Attachment>, OptionError> {
    let parse = |text: &String| {
        parse_attachment(text).map_err(|reason| OptionError::invalid("network", text, reason))
    };
    let mut attachments = given.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment::default());
    }
    for (number, attachment) in attachments.iter().enumerate() {
        if attachments[..number].iter().any(|other| other.network == attachment.network) {
            let name = &attachment.network;
            return Err(OptionError::Conflict(format!("network {name:?} is specified multiple times")));
        }
    }
    if let Some(first) = attachments.first_mut() {
        join(first, of_first)?;
    }
    Ok(attachments)
}

fn join(first: &mut Attachment, flags: &Attachment) -> Result<(), OptionError> {
    let (addresses, settings) = (&mut first.addresses, &mut first.settings);
    said_once(&mut addresses.ipv4, &flags.addresses.ipv4, "ip", "IPv4 address")?;
    said_once(&mut addresses.ipv6, &flags.addresses.ipv6, "ip6", "IPv6 address")?;
    said_once(&mut settings.mac_address, &flags.settings.mac_address, "mac-address", "MAC address")?;
    said_once(&mut settings.aliases, &flags.settings.aliases, "network-alias", "alias")?;
    let of_flag = &flags.addresses.link_local;
    said_once(&mut addresses.link_local, of_flag, "link-local-ip", "link-local IP addresses")
}

/// Takes what a flag says, if it says anything.
fn said_once<T: Clone + Default + PartialEq>(
    own: &mut T,
    of_flag: &T,
    flag: &str,
    what: &str,
) -> Result<(), OptionError> {
    let nothing = T::default();
    if *of_flag == nothing {
        return Ok(());
    }
    if *own != nothing {
        let message = format!("cannot specify both --{flag} and per-network {what}");
        return Err(OptionError::Conflict(message));
    }
    own.clone_from(of_flag);
    Ok(())
}

/// # Errors
/// Why it is none, in Docker's words.
fn parse_attachment(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') {
        return Ok(Attachment { network: text.to_owned(), ..Attachment::default() });
    }
    let mut attachment = Attachment::default();
    for field in fields(text)? {
        let pair = field.split_once('=').filter(|(key, _)| !key.trim().is_empty());
        let (key, value) = pair.ok_or_else(|| format!("invalid field {field}"))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
        match key.as_str() {
            "name" => attachment.network = value,
            "alias" => attachment.settings.aliases.push(value),
            "ip" => attachment.addresses.ipv4 = value,
            "ip6" => attachment.addresses.ipv6 = value,
            "link-local-ip" => attachment.addresses.link_local.push(value),
            "mac-address" => attachment.settings.mac_address = value,
            "gw-priority" => {
                let priority = value.parse().map_err(|_| format!("invalid gw-priority: {value}"))?;
                attachment.settings.gw_priority = priority;
            }
            "driver-opt" => {
                let (name, value) =
                    value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                attachment.settings.driver_opts.insert(name.trim().to_owned(), value.trim().to_owned());
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.network.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(texts: &[&str], of_first: &Attachment) -> Result<Vec<(String, serde_json::Value)>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let attachments = attachments(&texts, of_first).map_err(|error| error.to_string())?;
        let show = |attachment: Attachment| {
            (attachment.network.clone(), serde_json::to_value(attachment.settings()).unwrap())
        };
        Ok(attachments.into_iter().map(show).collect())
    }

    #[test]
    fn fields_go_where_the_api_has_them() {
        let nothing = Attachment::default();
        let all = "name=web,alias=a,alias=b,ip=10.0.0.9,ip6=fd00::9,mac-address=02:00:00:00:00:09,gw-priority=-3,\
                   driver-opt=berth.rate.in=1m,\"driver-opt=x=a,b\"";
        let expected = json!({
            "IPAMConfig": { "IPv4Address": "10.0.0.9", "IPv6Address": "fd00::9" }, "Aliases": ["a", "b"],
            "MacAddress": "02:00:00:00:00:09", "GwPriority": -3,
            "DriverOpts": { "berth.rate.in": "1m", "x": "a,b" },
        });
        assert_eq!(parsed(&[all], &nothing), Ok(vec![("web".to_owned(), expected)]));
        assert_eq!(parsed(&[], &nothing), Ok(vec![(String::new(), json!({}))]));
    }

    #[test]
    fn flags_of_their_own_are_the_first_networks() {
        let mut flags = Attachment::default();
        flags.settings.aliases = vec!["a".to_owned()];
        flags.addresses.ipv4 = "10.0.0.9".to_owned();
        let first = json!({ "Aliases": ["a"], "IPAMConfig": { "IPv4Address": "10.0.0.9" } });
        let expected = vec![("web".to_owned(), first), ("db".to_owned(), json!({}))];
        assert_eq!(parsed(&["web", "name=db"], &flags), Ok(expected));
        let twice = parsed(&["name=web,ip=10.0.0.8"], &flags).unwrap_err();
        assert_eq!(twice, "conflicting options: cannot specify both --ip and per-network IPv4 address");
        let twice = parsed(&["name=web,alias=x"], &flags).unwrap_err();
        assert!(twice.ends_with("cannot specify both --network-alias and per-network alias"), "{twice}");
    }

    #[test]
    fn what_is_none_is_said_in_dockers_words() {
        for (texts, reason) in [
            (&["name=web,colour=red"][..], "invalid field key colour"),
            (&["name=web,alias"], "invalid field alias"),
            (&["alias=a"], "network name/id is not specified"),
            (&["name=web,gw-priority=high"], "invalid gw-priority: high"),
            (&["name=web,driver-opt=x"], "invalid key value pair format in driver options"),
            (&["web", "web"], "network \"web\" is specified multiple times"),
        ] {
            let message = parsed(texts, &Attachment::default()).unwrap_err();
            assert!(message.ends_with(reason), "{message}");
        }
    }
}
