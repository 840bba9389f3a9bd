//! Kconfig text: what the fragment asks for, laid over a base configuration, and compared with what came out.
//!
//! Kconfig drops an option whose dependencies are not met without a word; [`Fragment::lost`] is that word.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::bail;

/// The options that a fragment names, each with the value it wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment(BTreeMap<String, String>);

/// How an option that is off compares with `CONFIG_X=n` and with not being mentioned: equal.
const OFF: &str = "n";

impl Fragment {
    /// Reads `CONFIG_X=value`, `# CONFIG_X is not set`, comments and blank lines.
    ///
    /// # Errors
    /// For any other line, and for an option that is named twice.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut options = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let Some((option, value)) = setting(line) else {
                if !line.is_empty() && !line.starts_with('#') {
                    bail!("line {}: neither an option nor a comment: {line}", index + 1);
                }
                continue;
            };
            if options.insert(option.to_owned(), value.to_owned()).is_some() {
                bail!("line {}: {option} is named twice", index + 1);
            }
        }
        Ok(Self(options))
    }

    /// The options alone, sorted: what decides the kernel, without the comments.
    pub(super) fn normalized(&self) -> String {
        let mut text = String::new();
        for (option, value) in &self.0 {
            if value == OFF {
                writeln!(text, "# {option} is not set").expect("a string takes any text");
            } else {
                writeln!(text, "{option}={value}").expect("a string takes any text");
            }
        }
        text
    }

    /// `base` with every option of the fragment replaced by the fragment's.
    pub(super) fn over(&self, base: &str) -> String {
        let kept = base.lines().filter(|line| match setting(line) {
            Some((option, _)) => !self.0.contains_key(option),
            None => true,
        });
        let mut merged: String = kept.flat_map(|line| [line, "\n"]).collect();
        merged.push_str(&self.normalized());
        merged
    }

    /// The options that `config` does not have as the fragment wants them, each with what it has.
    pub(super) fn lost(&self, config: &str) -> Vec<String> {
        let actual: BTreeMap<&str, &str> = config.lines().filter_map(setting).collect();
        let differing = self.0.iter().filter_map(|(option, wanted)| {
            let found = actual.get(option.as_str()).copied().unwrap_or(OFF);
            (found != wanted).then(|| format!("{option}: wanted {wanted}, got {found}"))
        });
        differing.collect()
    }
}

/// The option and value of one line, if it sets or unsets one.
fn setting(line: &str) -> Option<(&str, &str)> {
    if let Some(option) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return option.starts_with("CONFIG_").then_some((option, OFF));
    }
    line.split_once('=').filter(|(option, _)| option.starts_with("CONFIG_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# why\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n";

    #[test]
    fn the_fragment_wins_over_the_base() {
        let fragment = Fragment::parse(TEXT).unwrap();
        let merged = fragment.over("# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_D=7\n");
        assert_eq!(merged, "CONFIG_D=7\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n");
    }

    #[test]
    fn what_kconfig_dropped_is_named() {
        let fragment = Fragment::parse(TEXT).unwrap();
        assert!(fragment.lost("CONFIG_A=y\nCONFIG_C=\"x=y\"\n").is_empty());
        let lost = fragment.lost("# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=\"z\"\n");
        assert_eq!(
            lost,
            ["CONFIG_A: wanted y, got n", "CONFIG_B: wanted n, got y", "CONFIG_C: wanted \"x=y\", got \"z\""]
        );
    }

    #[test]
    fn a_misspelt_line_and_a_repeated_option_are_refused() {
        assert!(Fragment::parse("CONFG_A=y\n").is_err());
        assert!(Fragment::parse("CONFIG_A=y\n# CONFIG_A is not set\n").is_err());
    }

    #[test]
    fn comments_do_not_change_the_normalized_text() {
        let plain = Fragment::parse("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n").unwrap();
        assert_eq!(plain.normalized(), Fragment::parse(TEXT).unwrap().normalized());
    }
}
