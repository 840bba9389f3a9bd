//! Changes to an image's configuration, as `import --change` and `commit --change` write them: single instructions of a
//! Dockerfile, those that only configure.

use super::record::ImageConfig;

/// Clients send a handful.
const MAX_CHANGES: usize = 256;

/// Why a change cannot be made; names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    #[error("{0} is not a valid change command")]
    Instruction(String),
    #[error("HEALTHCHECK is not supported as a change yet")]
    Healthcheck,
    #[error("{instruction} {arguments:?}: {problem}")]
    Arguments { instruction: &'static str, arguments: String, problem: &'static str },
    #[error("more than {MAX_CHANGES} changes")]
    TooMany,
}

impl ImageConfig {
    /// Makes the changes one after the other.
    ///
    /// # Errors
    /// The first one that cannot be made.
    pub fn change<'a>(&mut self, changes: impl IntoIterator<Item = &'a str>) -> Result<(), InvalidChange> {
        for (number, change) in changes.into_iter().enumerate() {
            if number == MAX_CHANGES {
                return Err(InvalidChange::TooMany);
            }
            let change = change.trim();
            let (instruction, arguments) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
            self.change_one(instruction, arguments.trim())?;
        }
        Ok(())
    }

    fn change_one(&mut self, instruction: &str, arguments: &str) -> Result<(), InvalidChange> {
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => self.cmd = Some(command(arguments)),
            "ENTRYPOINT" => self.entrypoint = Some(command(arguments)),
            "ENV" => {
                for (name, value) in pairs("ENV", arguments)? {
                    self.set_variable(&name, &value);
                }
            }
            "LABEL" => self.labels.extend(pairs("LABEL", arguments)?),
            "EXPOSE" => {
                for word in some_words("EXPOSE", arguments)? {
                    self.exposed_ports.extend(ports(&word)?);
                }
            }
            "VOLUME" => self.volumes.extend(match json_list(arguments) {
                Some(list) => list,
                None => some_words("VOLUME", arguments)?,
            }),
            "USER" => self.user = one_word("USER", arguments)?,
            "WORKDIR" => {
                let path = one_word("WORKDIR", arguments)?;
                self.working_dir = joined(&self.working_dir, &path);
            }
            "STOPSIGNAL" => self.stop_signal = Some(one_word("STOPSIGNAL", arguments)?),
            "ONBUILD" => {
                let trigger = some("ONBUILD", arguments)?.to_owned();
                self.on_build.get_or_insert_default().push(trigger);
            }
            "HEALTHCHECK" => return Err(InvalidChange::Healthcheck),
            _ => return Err(InvalidChange::Instruction(instruction.chars().take(64).collect())),
        }
        Ok(())
    }

    fn set_variable(&mut self, name: &str, value: &str) {
        let assignment = format!("{name}={value}");
        let same = |entry: &&mut String| entry.split('=').next() == Some(name);
        match self.env.iter_mut().find(same) {
            Some(entry) => *entry = assignment,
            None => self.env.push(assignment),
        }
    }
}

/// `["program", "argument"]`, or a line for the shell.
fn command(arguments: &str) -> Vec<String> {
    let shell = || vec!["/bin/sh".to_owned(), "-c".to_owned(), arguments.to_owned()];
    json_list(arguments).unwrap_or_else(shell)
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// `name=value name="other value"`, or the older `name value`.
fn pairs(instruction: &'static str, arguments: &str) -> Result<Vec<(String, String)>, InvalidChange> {
    let invalid = |problem| refused(instruction, arguments, problem);
    let words = some_words(instruction, arguments)?;
    if !words[0].contains('=') {
        let (name, value) =
            arguments.split_once(char::is_whitespace).ok_or_else(|| invalid("it must have two arguments"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').ok_or_else(|| invalid("expected NAME=VALUE"))?;
        let named = !name.is_empty();
        named.then(|| (name.to_owned(), value.to_owned())).ok_or_else(|| invalid("a name is empty"))
    };
    words.iter().map(pair).collect()
}

/// `80`, `53/udp`, `8000-8002/tcp`: one by one, with protocol.
fn ports(word: &str) -> Result<Vec<String>, InvalidChange> {
    let invalid = || refused("EXPOSE", word, "expected PORT[-PORT][/tcp|/udp|/sctp]");
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(invalid);
    let (first, last) = (port(first)?, port(last)?);
    let protocol = protocol.to_ascii_lowercase();
    if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A relative path goes on from where the last one ended.
fn joined(before: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", before.trim_end_matches('/'))
}

fn refused(instruction: &'static str, arguments: &str, problem: &'static str) -> InvalidChange {
    InvalidChange::Arguments { instruction, arguments: arguments.chars().take(256).collect(), problem }
}

fn some<'a>(instruction: &'static str, arguments: &'a str) -> Result<&'a str, InvalidChange> {
    let missing = || refused(instruction, arguments, "it requires an argument");
    Some(arguments).filter(|arguments| !arguments.is_empty()).ok_or_else(missing)
}

fn some_words(instruction: &'static str, arguments: &str) -> Result<Vec<String>, InvalidChange> {
    let words = words(some(instruction, arguments)?);
    let words = words.ok_or_else(|| refused(instruction, arguments, "a quote is not closed"))?;
    if words.is_empty() { Err(refused(instruction, arguments, "it requires an argument")) } else { Ok(words) }
}

fn one_word(instruction: &'static str, arguments: &str) -> Result<String, InvalidChange> {
    let mut words = some_words(instruction, arguments)?;
    match words.pop() {
        Some(word) if words.is_empty() && !word.is_empty() => Ok(word),
        _ => Err(refused(instruction, arguments, "it requires exactly one argument")),
    }
}

/// Split at spaces; quotes and backslashes keep words together. `None` if a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ImageConfig, InvalidChange> {
        let mut config = ImageConfig::default();
        config.change(changes.iter().copied())?;
        Ok(config)
    }

    #[test]
    fn every_instruction_configures_its_field() {
        let config = changed(&[
            r#"CMD ["sh", "-l"]"#,
            "entrypoint exec top -b",
            "ENV A=1 B=\"two words\" C=a\\ b",
            "ENV A again and again",
            "EXPOSE 80 53/udp 8000-8001",
            "LABEL a=b 'c d'=e",
            "USER nobody",
            "VOLUME /data /more",
            r#"VOLUME ["/third"]"#,
            "WORKDIR /srv",
            "WORKDIR www",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGINT",
        ])
        .unwrap();
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(config.cmd, Some(list(&["sh", "-l"])));
        assert_eq!(config.entrypoint, Some(list(&["/bin/sh", "-c", "exec top -b"])));
        assert_eq!(config.env, ["A=again and again", "B=two words", "C=a b"]);
        assert_eq!(Vec::from_iter(config.exposed_ports), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!((config.labels["a"].as_str(), config.labels["c d"].as_str()), ("b", "e"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("nobody", "/srv/www"));
        assert_eq!(Vec::from_iter(config.volumes), ["/data", "/more", "/third"]);
        assert_eq!((config.on_build, config.stop_signal), (Some(list(&["RUN make"])), Some("SIGINT".into())));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (change, message) in [
            ("RUN make", "RUN is not a valid change command"),
            ("", " is not a valid change command"),
            ("ENV", "ENV \"\": it requires an argument"),
            ("ENV A", "ENV \"A\": it must have two arguments"),
            ("LABEL a=\"b", "LABEL \"a=\\\"b\": a quote is not closed"),
            ("EXPOSE 0", "EXPOSE \"0\": expected PORT[-PORT][/tcp|/udp|/sctp]"),
            ("EXPOSE 9-8", "EXPOSE \"9-8\": expected PORT[-PORT][/tcp|/udp|/sctp]"),
            ("USER a b", "USER \"a b\": it requires exactly one argument"),
            ("HEALTHCHECK NONE", "HEALTHCHECK is not supported as a change yet"),
        ] {
            assert_eq!(changed(&[change]).unwrap_err().to_string(), message);
        }
        assert_eq!(changed(&["USER x"; MAX_CHANGES + 1]), Err(InvalidChange::TooMany));
    }
}
