//! What a crate does not know, it does not say: boundaries as absences of words.
//!
//! Names in any case count (`ImageStore`, `image_store`, "the image"). Where the word is our own, comments
//! count too: who must speak of a thing to explain himself knows of it. Inline tests may say what they like.

use std::path::Path;

use super::Finding;
use super::tree::{SourceFile, Tree, is_comment};

/// A part of the tree with the words that do not occur in it.
struct Boundary {
    folder: &'static str,
    words: &'static [&'static str],
    reach: Reach,
    /// Phrases that contain such a word and are meant: names that others gave.
    allowed: &'static [&'static str],
    reason: &'static str,
}

/// Where a word is looked for.
#[derive(PartialEq)]
enum Reach {
    Code,
    CodeAndComments,
}

const BOUNDARIES: [Boundary; 4] = [
    Boundary {
        folder: "vmm/src",
        words: &["container", "containers", "image", "images", "http"],
        reach: Reach::CodeAndComments,
        // A field of Linux' boot parameters.
        allowed: &["ramdisk_image"],
        reason: "the machine monitor knows machines and disks, not what they are for",
    },
    Boundary {
        folder: "guest-agent/src",
        words: &["image", "images", "http"],
        reach: Reach::CodeAndComments,
        allowed: &["image_disk", "IMAGE_DISK", "ImageDisk", "image disk"],
        reason: "the agent gets disks and descriptions, and knows no images and no HTTP",
    },
    Boundary {
        folder: "hostd/src/engine",
        words: &["axum", "hyper", "http", "tower"],
        reach: Reach::Code,
        allowed: &[],
        reason: "the engine decides; only hostd/src/api speaks HTTP",
    },
    Boundary {
        folder: "protocol/src",
        words: &["tokio", "http"],
        reach: Reach::Code,
        allowed: &[],
        reason: "the contract is inert: messages and a codec, no I/O",
    },
];

/// Not a word of ours: it is called a machine.
const BANNED: &str = concat!("sand", "box");
/// Docker has fields of that name, and this is where its dialect is spoken.
const DIALECT: &str = "hostd/src/api";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for boundary in &BOUNDARIES {
        let inside = tree.rust().filter(|file| file.path.starts_with(Path::new(boundary.folder)));
        for file in inside {
            boundary.check(file, findings);
        }
    }
    for file in tree.rust().filter(|file| !file.path.starts_with(Path::new(DIALECT))) {
        for (line, text) in file.lines() {
            if words(text).any(|word| word == BANNED) {
                findings.push(file.finding(line, format!("`{BANNED}`: our word is machine")));
            }
        }
    }
}

impl Boundary {
    fn check(&self, file: &SourceFile, findings: &mut Vec<Finding>) {
        let in_reach = |(_, text): &(usize, &str)| self.reach == Reach::CodeAndComments || !is_comment(text);
        for (line, text) in file.product_lines().filter(in_reach) {
            let text = self.allowed.iter().fold(text.to_owned(), |text, phrase| text.replace(phrase, ""));
            for word in words(&text).filter(|word| self.words.contains(&word.as_str())) {
                findings.push(file.finding(line, format!("`{word}`: {}", self.reason)));
            }
        }
    }
}

/// The words of a line in lower case: split where letters end and where `camelCase` has its humps.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|character: char| !character.is_alphabetic()).flat_map(humps)
}

fn humps(identifier: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_is_lower = true;
    for character in identifier.chars() {
        let starts_word = character.is_uppercase() && previous_is_lower;
        previous_is_lower = character.is_lowercase();
        if starts_word || words.is_empty() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(character.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        check(&Tree::of(&[(path, text)]), &mut findings);
        findings.len()
    }

    #[test]
    fn identifiers_fall_into_words() {
        let of = |line| words(line).collect::<Vec<_>>();
        assert_eq!(of("ImageStore::new(image_disk)"), ["image", "store", "new", "image", "disk"]);
        assert_eq!(of("// HTTP2 imagery"), ["http", "imagery"]);
    }

    #[test]
    fn a_word_is_found_in_names_and_in_comments() {
        assert_eq!(found("vmm/src/a.rs", "struct ContainerList;\n// of an image\n"), 2);
        assert_eq!(found("vmm/src/a.rs", "struct Contained; // imagine https\n"), 0);
        assert_eq!(found("hostd/src/api/a.rs", "use axum::Router; // the container\n"), 0);
        assert_eq!(found("hostd/src/engine/a.rs", "use axum::Router; // hyper\n"), 2);
        assert_eq!(found("hostd/src/engine/a.rs", "//! Nothing here speaks HTTP.\n"), 0);
    }

    #[test]
    fn the_image_disk_of_the_wire_contract_may_be_named() {
        assert_eq!(found("guest-agent/src/a.rs", "let disk = request.image_disk; // the image disk\n"), 0);
        assert_eq!(found("guest-agent/src/a.rs", "let name = request.image;\n"), 1);
    }

    #[test]
    fn one_word_for_a_machine() {
        assert_eq!(found("cli/src/a.rs", concat!("let sand", "box = 1;\n")), 1);
        assert_eq!(found("hostd/src/api/a.rs", concat!("Sand", "boxID: String,\n")), 0);
    }
}
