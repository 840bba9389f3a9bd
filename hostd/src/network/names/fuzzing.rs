//! Hostile input for what reads guests' questions: the fuzz target, which tests play, too.

use std::net::IpAddr;

use super::question::{Question, Refusal, Transport};

/// A question of a guest: refused, or every answer to it bears its id, is an answer and fits whoever asked.
///
/// # Panics
/// If that promise is broken.
pub fn question(input: &[u8]) {
    let addresses: Vec<IpAddr> =
        (0..400).map(|number: u32| std::net::Ipv4Addr::from(number).into()).collect();
    for transport in [Transport::Datagram, Transport::Stream] {
        match Question::read(input, transport) {
            Err(Refusal::Silence) => {}
            Err(Refusal::Answer(answer)) => check(input, &answer, 4096),
            Ok(question) => {
                let limit = question.max_answer_bytes();
                assert!(limit >= 512);
                assert!(question.name().len() <= 255);
                check(input, &question.addresses(&addresses), limit);
                check(input, &question.addresses(&[]), limit);
                check(input, &question.pointer("web.front"), limit);
                check(input, &question.failure(), limit);
                check(input, &question.passed_on(vec![0; limit + 1]), limit);
            }
        }
    }
}

fn check(question: &[u8], answer: &[u8], limit: usize) {
    assert!(answer.len() >= 12, "there is one");
    assert!(answer.len() <= limit, "{} of {limit} bytes", answer.len());
    assert_eq!(answer.get(..2), question.get(..2), "its id");
    assert!(answer.get(2).is_some_and(|flags| flags & 0x80 != 0), "it is an answer");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_replayed() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/name_question");
        let inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty());
        for path in inputs {
            // The output of a test that fails ends with the input that it failed for.
            println!("{}", path.display());
            question(&std::fs::read(&path).unwrap());
        }
        question(&[]);
    }
}
