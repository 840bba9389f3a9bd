//! One question as a guest sent it, and the answers that it can be given.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::network::pools::IpVersion;

/// Docker's: long for a container that may go at any time, but what clients of both expect.
const TIME_TO_LIVE_S: u32 = 600;
/// What we take in one datagram (RFC 6891, section 6.2.5).
const MAX_DATAGRAM_BYTES: u16 = 4096;
/// The header and the question of a name of full length, and what EDNS adds to them.
const MAX_OVERHEAD_BYTES: usize = 12 + 255 + 4 + 11;
/// A record that names the question's own name by two bytes (RFC 1035, section 4.1.4).
const MAX_RECORD_BYTES: usize = 2 + 10 + 16;

/// What carries a question, and so how long its answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Datagram,
    Stream,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Addresses(IpVersion),
    /// The name of an address.
    NameOf(IpAddr),
    /// Where mail for a name goes: to its own addresses, if nobody says otherwise.
    MailServers,
    /// Anything else, of which only other servers know.
    Other,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub struct Question {
    message: Message,
    name: String,
    wanted: Wanted,
    transport: Transport,
}

/// What is no question that anybody could answer.
#[derive(Debug)]
pub enum Refusal {
    /// With this message, which says why.
    Answer(Vec<u8>),
    /// With nothing: there is nobody to answer to, or it would be answered in turn.
    Silence,
}

impl Question {
    /// # Errors
    /// What to answer instead.
    pub fn read(bytes: &[u8], transport: Transport) -> Result<Self, Refusal> {
        let Ok(message) = Message::from_vec(bytes) else {
            return Err(malformed(bytes));
        };
        if message.metadata.message_type != MessageType::Query {
            return Err(Refusal::Silence);
        }
        if message.metadata.op_code != OpCode::Query {
            return Err(refusal(&message, ResponseCode::NotImp));
        }
        let [query] = message.queries.as_slice() else {
            return Err(refusal(&message, ResponseCode::FormErr));
        };
        let is_internet = query.query_class() == DNSClass::IN;
        let wanted = match query.query_type() {
            RecordType::A if is_internet => Wanted::Addresses(IpVersion::V4),
            RecordType::AAAA if is_internet => Wanted::Addresses(IpVersion::V6),
            RecordType::PTR if is_internet => address_of(query.name()).map_or(Wanted::Other, Wanted::NameOf),
            RecordType::MX if is_internet => Wanted::MailServers,
            _ => Wanted::Other,
        };
        Ok(Self { name: text(query.name()).unwrap_or_default(), wanted, transport, message })
    }

    /// In lower case, without the dot at its end; empty if no container could be called so.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The longest answer that whoever asked takes.
    #[must_use]
    pub fn max_answer_bytes(&self) -> usize {
        match self.transport {
            Transport::Stream => usize::from(u16::MAX),
            Transport::Datagram => self.message.max_payload().min(MAX_DATAGRAM_BYTES).into(),
        }
    }

    /// The name has these addresses, as many of them as fit; none is an answer, too.
    #[must_use]
    pub fn addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let room = self.max_answer_bytes().saturating_sub(MAX_OVERHEAD_BYTES) / MAX_RECORD_BYTES;
        let mut answer = self.answer(ResponseCode::NoError);
        let name = self.asked_name();
        answer.metadata.truncation = addresses.len() > room;
        let records = addresses.iter().take(room);
        answer.add_answers(
            records.map(|ip| Record::from_rdata(name.clone(), TIME_TO_LIVE_S, RData::from(*ip))),
        );
        encode(&answer)
    }

    /// The address has this name, which is of letters that names have.
    #[must_use]
    pub fn pointer(&self, name: &str) -> Vec<u8> {
        let mut answer = self.answer(ResponseCode::NoError);
        let Ok(mut name) = Name::from_ascii(name) else { return self.failure() };
        name.set_fqdn(true);
        let data = RData::PTR(PTR(name));
        answer.add_answer(Record::from_rdata(self.asked_name(), TIME_TO_LIVE_S, data));
        encode(&answer)
    }

    /// Nobody can answer now.
    #[must_use]
    pub fn failure(&self) -> Vec<u8> {
        encode(&self.answer(ResponseCode::ServFail))
    }

    /// Another server's answer as whoever asked takes it: one that is too long becomes one that says so.
    #[must_use]
    pub fn passed_on(&self, answer: Vec<u8>) -> Vec<u8> {
        if answer.len() <= self.max_answer_bytes() {
            return answer;
        }
        let mut cut = self.answer(ResponseCode::NoError);
        cut.metadata.truncation = true;
        encode(&cut)
    }

    fn asked_name(&self) -> Name {
        self.message.queries.first().map(|query| query.name().clone()).unwrap_or_default()
    }

    fn answer(&self, code: ResponseCode) -> Message {
        answer_to(&self.message, code)
    }
}

/// An answer without records.
fn answer_to(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(question.queries.iter().take(1).cloned());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM_BYTES);
        answer.set_edns(edns);
    }
    answer
}

fn refusal(question: &Message, code: ResponseCode) -> Refusal {
    Refusal::Answer(encode(&answer_to(question, code)))
}

/// Of a message that cannot be read there is its header, at most.
fn malformed(bytes: &[u8]) -> Refusal {
    let Some([high, low, flags, ..]) = bytes.get(..12) else { return Refusal::Silence };
    if flags & 0x80 != 0 {
        return Refusal::Silence;
    }
    let id = u16::from_be_bytes([*high, *low]);
    Refusal::Answer(encode(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)))
}

/// What is read from a guest can be written again; if not, nobody is answered.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

/// A name of the letters that containers and networks can have.
fn text(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        if label.is_empty()
            || !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    text.make_ascii_lowercase();
    Some(text)
}

/// The address that a name of in-addr.arpa or ip6.arpa is about, if it is about one.
fn address_of(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use proptest::prelude::*;

    use super::*;

    fn asking(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.id = 0x1234;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn read(message: &Message, transport: Transport) -> Question {
        Question::read(&message.to_vec().unwrap(), transport).unwrap()
    }

    fn refused(bytes: &[u8]) -> Option<ResponseCode> {
        match Question::read(bytes, Transport::Datagram).unwrap_err() {
            Refusal::Answer(answer) => Some(Message::from_vec(&answer).unwrap().metadata.response_code),
            Refusal::Silence => None,
        }
    }

    #[test]
    fn what_is_asked_for_is_told_apart() {
        let wanted = |name, kind| {
            let question = read(&asking(name, kind), Transport::Datagram);
            (question.name().to_owned(), question.wanted().clone())
        };
        assert_eq!(
            wanted("Web.Front.", RecordType::A),
            ("web.front".into(), Wanted::Addresses(IpVersion::V4))
        );
        assert_eq!(wanted("web", RecordType::AAAA).1, Wanted::Addresses(IpVersion::V6));
        assert_eq!(
            wanted("2.0.18.172.in-addr.arpa.", RecordType::PTR).1,
            Wanted::NameOf([172, 18, 0, 2].into())
        );
        assert_eq!(wanted("18.172.in-addr.arpa.", RecordType::PTR).1, Wanted::Other);
        assert_eq!(wanted("web", RecordType::MX).1, Wanted::MailServers);
        assert_eq!(wanted("web", RecordType::TXT).1, Wanted::Other);
        assert_eq!(wanted("*.web", RecordType::A).0, "", "no container has such a name");
    }

    #[test]
    fn answers_are_to_the_question() {
        let mut asked = asking("Web.", RecordType::A);
        asked.set_edns(Edns::new());
        let question = read(&asked, Transport::Datagram);
        let answer = Message::from_vec(&question.addresses(&[[10, 0, 0, 2].into()])).unwrap();
        assert_eq!(answer.metadata.id, 0x1234);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
        assert_eq!(answer.queries[0].name().to_ascii(), "Web.", "as it was written");
        assert_eq!(answer.answers[0].data, RData::from(IpAddr::from([10, 0, 0, 2])));
        assert!(answer.edns.is_some());
        let none = Message::from_vec(&question.addresses(&[])).unwrap();
        assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
        let failure = Message::from_vec(&question.failure()).unwrap();
        assert_eq!(failure.metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn a_pointer_is_a_whole_name() {
        let question = read(&asking("2.0.18.172.in-addr.arpa.", RecordType::PTR), Transport::Datagram);
        let answer = Message::from_vec(&question.pointer("web.front")).unwrap();
        let RData::PTR(name) = &answer.answers[0].data else { panic!("{answer:?}") };
        assert_eq!(name.0.to_ascii(), "web.front.");
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_asked_for_again_by_stream() {
        let many: Vec<IpAddr> = (0..=255).map(|last| [10, 0, 0, last].into()).collect();
        let answer = |transport| read(&asking("all", RecordType::A), transport).addresses(&many);
        let datagram = answer(Transport::Datagram);
        assert!(datagram.len() <= 512);
        let cut = Message::from_vec(&datagram).unwrap();
        assert!(cut.metadata.truncation && !cut.answers.is_empty());
        let whole = Message::from_vec(&answer(Transport::Stream)).unwrap();
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers.len(), 256);
    }

    #[test]
    fn an_answer_of_others_that_is_too_long_is_said_to_be() {
        let question = read(&asking("big.example.", RecordType::TXT), Transport::Datagram);
        assert_eq!(question.passed_on(vec![1; 512]), vec![1; 512]);
        let cut = Message::from_vec(&question.passed_on(vec![1; 513])).unwrap();
        assert!(cut.metadata.truncation && cut.metadata.id == 0x1234);
    }

    #[test]
    fn what_is_no_question_is_told_so_or_nothing() {
        let mut answer = asking("web", RecordType::A);
        answer.metadata.message_type = MessageType::Response;
        assert_eq!(refused(&answer.to_vec().unwrap()), None);
        let mut update = asking("web", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(refused(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
        let mut twice = asking("web", RecordType::A);
        twice.add_query(Query::query(Name::from_ascii("db").unwrap(), RecordType::A));
        assert_eq!(refused(&twice.to_vec().unwrap()), Some(ResponseCode::FormErr));
        assert_eq!(refused(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x3f"), Some(ResponseCode::FormErr));
        assert_eq!(refused(b"short"), None);
    }

    proptest! {
        #[test]
        fn whatever_a_guest_sends_is_answered_within_bounds(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            plausible in any::<bool>(),
        ) {
            // Most bytes are no header of a question; half of them get one.
            if plausible && bytes.len() > 12 {
                bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
            }
            super::super::fuzzing::question(&bytes);
        }
    }
}
