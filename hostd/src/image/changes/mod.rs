//! Changes to an image's configuration, as `import --change` and `commit --change` write them: single instructions of a
//! Dockerfile, those that only configure.

mod health;
mod words;

use super::record::ImageConfig;
use health::healthcheck;
use words::Words;

/// Clients send a handful.
const MAX_CHANGES: usize = 256;

/// Why a change cannot be made; names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChange {
    #[error("{0} is not a valid change command")]
    Instruction(String),
    #[error("{0}")]
    Healthcheck(String),
    #[error("{0}")]
    Trigger(&'static str),
    #[error("{instruction} {problem}")]
    Count { instruction: String, problem: &'static str },
    #[error("Invalid containerPort: {0}")]
    Port(String),
    #[error("{instruction} {arguments:?}: {problem}")]
    Arguments { instruction: String, arguments: String, problem: &'static str },
    #[error("more than {MAX_CHANGES} changes")]
    TooMany,
}

impl ImageConfig {
    /// Makes the changes one after the other.
    ///
    /// # Errors
    /// The first one that cannot be made.
    pub fn change<'a>(&mut self, changes: impl IntoIterator<Item = &'a str>) -> Result<(), InvalidChange> {
        let mut has_command = false;
        for (number, change) in changes.into_iter().enumerate() {
            if number == MAX_CHANGES {
                return Err(InvalidChange::TooMany);
            }
            let change = change.trim();
            let (instruction, arguments) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
            let instruction = instruction.to_ascii_uppercase();
            has_command |= instruction == "CMD";
            // The command of another entrypoint is nothing for this one.
            if instruction == "ENTRYPOINT" && !has_command {
                self.cmd = None;
            }
            self.change_one(&instruction, arguments.trim())?;
        }
        Ok(())
    }

    fn change_one(&mut self, instruction: &str, arguments: &str) -> Result<(), InvalidChange> {
        let variables = std::mem::take(&mut self.env);
        let read = Arguments { instruction, text: arguments, words: Words { variables: &variables } };
        let changed = self.change_by(&read);
        let assignments = std::mem::replace(&mut self.env, variables);
        assignments.into_iter().for_each(|assignment| self.set_variable(assignment));
        changed
    }

    /// New variables are all that is left in `env`.
    fn change_by(&mut self, arguments: &Arguments<'_>) -> Result<(), InvalidChange> {
        match arguments.instruction {
            "CMD" => self.cmd = Some(command(arguments.text)),
            "ENTRYPOINT" => self.entrypoint = Some(command(arguments.text)),
            "ENV" => {
                let pairs = arguments.pairs()?.into_iter();
                self.env = pairs.map(|(name, value)| format!("{name}={value}")).collect();
            }
            "LABEL" => self.labels.extend(arguments.pairs()?),
            "EXPOSE" => {
                for word in arguments.some_words()? {
                    self.exposed_ports.extend(Arguments::ports(&word)?);
                }
            }
            "VOLUME" => self.volumes.extend(arguments.list()?),
            "USER" => self.user = arguments.one_word()?,
            "WORKDIR" => self.working_dir = joined(&self.working_dir, &arguments.one_word()?),
            "STOPSIGNAL" => self.stop_signal = Some(arguments.one_word()?),
            "ONBUILD" => {
                let trigger = arguments.trigger()?;
                self.on_build.get_or_insert_default().push(trigger);
            }
            "HEALTHCHECK" => {
                self.healthcheck = Some(healthcheck(arguments.text).map_err(InvalidChange::Healthcheck)?);
            }
            unknown => return Err(InvalidChange::Instruction(unknown.chars().take(64).collect())),
        }
        Ok(())
    }

    fn set_variable(&mut self, assignment: String) {
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        match self.env.iter_mut().find(|entry| name(entry) == name(&assignment)) {
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

/// A relative path goes on from where the last one ended.
fn joined(before: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", before.trim_end_matches('/'))
}

/// What follows an instruction.
struct Arguments<'a> {
    instruction: &'a str,
    text: &'a str,
    words: Words<'a>,
}

impl Arguments<'_> {
    /// `name=value name="other value"`, or the older `name value`.
    fn pairs(&self) -> Result<Vec<(String, String)>, InvalidChange> {
        let words = self.some_words()?;
        let first = self.text.split(char::is_whitespace).next().unwrap_or_default();
        if !first.contains('=') && !words[0].contains('=') {
            let pair = self.text.split_once(char::is_whitespace);
            let (name, value) = pair.ok_or_else(|| self.miscounted("must have two arguments"))?;
            let read = |text: &str| self.words.whole(text.trim()).map_err(|problem| self.refused(problem));
            return Ok(vec![(read(name)?, read(value)?)]);
        }
        let pair = |word: &String| {
            let (name, value) = word.split_once('=').ok_or_else(|| self.refused("expected NAME=VALUE"))?;
            if name.is_empty() {
                return Err(self.refused("a name is empty"));
            }
            Ok((name.to_owned(), value.to_owned()))
        };
        words.iter().map(pair).collect()
    }

    /// `80`, `53/udp`, `8000-8002/tcp`: one by one, with protocol.
    fn ports(word: &str) -> Result<Vec<String>, InvalidChange> {
        let invalid = || InvalidChange::Port(word.chars().take(256).collect());
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

    /// JSON, or words.
    fn list(&self) -> Result<Vec<String>, InvalidChange> {
        let Some(list) = json_list(self.text) else { return self.some_words() };
        let read = |text: &String| self.words.whole(text).map_err(|problem| self.refused(problem));
        list.iter().map(read).collect()
    }

    /// What is done when somebody builds on the image.
    fn trigger(&self) -> Result<String, InvalidChange> {
        let trigger = self.some()?;
        let instruction = trigger.split(char::is_whitespace).next().unwrap_or_default().to_ascii_uppercase();
        let refused = match instruction.as_str() {
            "ONBUILD" => "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            "MAINTAINER" => "MAINTAINER isn't allowed as an ONBUILD trigger",
            "FROM" => "FROM isn't allowed as an ONBUILD trigger",
            _ => return Ok(trigger.to_owned()),
        };
        Err(InvalidChange::Trigger(refused))
    }

    fn some(&self) -> Result<&str, InvalidChange> {
        let missing = || self.miscounted("requires at least one argument");
        Some(self.text).filter(|text| !text.is_empty()).ok_or_else(missing)
    }

    fn some_words(&self) -> Result<Vec<String>, InvalidChange> {
        let words = self.words.split(self.some()?).map_err(|problem| self.refused(problem))?;
        if words.is_empty() { Err(self.miscounted("requires at least one argument")) } else { Ok(words) }
    }

    fn one_word(&self) -> Result<String, InvalidChange> {
        let words = self.words.split(self.text);
        let mut words = words.map_err(|problem| self.refused(problem))?;
        match words.pop() {
            Some(word) if words.is_empty() && !word.is_empty() => Ok(word),
            _ => Err(self.miscounted("requires exactly one argument")),
        }
    }

    fn miscounted(&self, problem: &'static str) -> InvalidChange {
        InvalidChange::Count { instruction: self.instruction.to_owned(), problem }
    }

    fn refused(&self, problem: &'static str) -> InvalidChange {
        InvalidChange::Arguments {
            instruction: self.instruction.to_owned(),
            arguments: self.text.chars().take(256).collect(),
            problem,
        }
    }
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
            "ENV D=$C/${NO:-x} C='$A'",
            "EXPOSE 80 53/udp 8000-8001",
            "LABEL a=b 'c d'=e",
            "USER nobody",
            "VOLUME /data /more",
            r#"VOLUME ["/third"]"#,
            "WORKDIR /srv",
            "WORKDIR www",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --retries=2 CMD true",
        ])
        .unwrap();
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(config.cmd, Some(list(&["sh", "-l"])));
        assert_eq!(config.entrypoint, Some(list(&["/bin/sh", "-c", "exec top -b"])));
        assert_eq!(config.env, ["A=again and again", "B=two words", "C=$A", "D=a b/x"]);
        assert_eq!(Vec::from_iter(config.exposed_ports), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!((config.labels["a"].as_str(), config.labels["c d"].as_str()), ("b", "e"));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("nobody", "/srv/www"));
        assert_eq!(Vec::from_iter(config.volumes), ["/data", "/more", "/third"]);
        assert_eq!(config.healthcheck.unwrap()["Test"][1], "true");
        assert_eq!((config.on_build, config.stop_signal), (Some(list(&["RUN make"])), Some("SIGINT".into())));
    }

    #[test]
    fn an_entrypoint_drops_the_command_of_before_but_not_its_own() {
        let before = ImageConfig { cmd: Some(vec!["old".to_owned()]), ..ImageConfig::default() };
        let of = |changes: &[&str]| {
            let mut config = before.clone();
            config.change(changes.iter().copied()).unwrap();
            config.cmd
        };
        assert_eq!(of(&["USER x"]), before.cmd);
        assert_eq!(of(&["ENTRYPOINT [\"x\"]"]), None);
        assert_eq!(of(&["CMD [\"y\"]", "ENTRYPOINT [\"x\"]"]), Some(vec!["y".to_owned()]));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (change, message) in [
            ("RUN make", "RUN is not a valid change command"),
            ("", " is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("LABEL a=\"b", "LABEL \"a=\\\"b\": a quote is not closed"),
            ("EXPOSE 0", "Invalid containerPort: 0"),
            ("EXPOSE 9-8", "Invalid containerPort: 9-8"),
            ("USER a b", "USER requires exactly one argument"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("USER", "USER requires exactly one argument"),
            ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
            ("ONBUILD onbuild RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ] {
            assert_eq!(changed(&[change]).unwrap_err().to_string(), message);
        }
        assert_eq!(changed(&["USER x"; MAX_CHANGES + 1]), Err(InvalidChange::TooMany));
    }
}
