//! Servers on loopback that answer as they are told to.

use tokio::net::TcpListener;

use super::*;

const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02db\x07example\0\0\x01\0\x01";

/// Whatever it is asked, `by_datagram` says what it answers, and by stream it answers with `LONG` bytes more.
async fn server(by_datagram: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            for answer in by_datagram(&buffer[..length]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _from) = listener.accept().await.unwrap();
            let mut question = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut question).await.unwrap();
            let answer = [answer(&question, 0x81, 0x80), vec![7; LONG]].concat();
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

const LONG: usize = 60_000;

fn answer(question: &[u8], flags: u8, more: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2..4].copy_from_slice(&[flags, more]);
    answer
}

fn good(question: &[u8]) -> Vec<Vec<u8>> {
    vec![answer(question, 0x81, 0x80)]
}

#[tokio::test]
async fn an_answer_bears_the_id_of_who_asked_and_the_server_saw_another() {
    let server = server(good).await;
    let mut same = 0;
    for _ in 0..4 {
        let seen = ask(&[server], QUESTION, Transport::Datagram).await.unwrap();
        assert_eq!(seen, answer(QUESTION, 0x81, 0x80));
        same += usize::from(with_id(QUESTION, rand::random()).unwrap() == QUESTION);
    }
    assert!(same < 4);
}

#[tokio::test]
async fn what_answers_another_question_is_not_believed() {
    let server = server(|question| {
        let mut other_id = answer(question, 0x81, 0x80);
        other_id[0] ^= 0xff;
        let mut other_name = answer(question, 0x81, 0x80);
        other_name[13] = b'x';
        let mut upper_case = answer(question, 0x81, 0x80);
        upper_case[13] = b'D';
        vec![other_id, other_name, question.to_vec(), vec![1, 2, 3], upper_case]
    })
    .await;
    let seen = ask(&[server], QUESTION, Transport::Datagram).await.unwrap();
    assert_eq!(seen[13], b'D');
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails_or_is_not_there() {
    let nobody = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap()
    };
    let refusing = server(|question| vec![answer(question, 0x81, 0x85)]).await;
    let answering = server(good).await;
    let seen = ask(&[nobody, refusing, answering], QUESTION, Transport::Datagram).await.unwrap();
    assert_eq!(seen, answer(QUESTION, 0x81, 0x80));
    let refused = ask(&[refusing, nobody], QUESTION, Transport::Datagram).await.unwrap();
    assert_eq!(refused[3] & CODE, REFUSED);
    assert_eq!(ask(&[nobody], QUESTION, Transport::Datagram).await, None);
    assert_eq!(ask(&[], QUESTION, Transport::Datagram).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    assert_eq!(ask(&[address], QUESTION, Transport::Datagram).await, None);
}

#[tokio::test]
async fn what_a_datagram_does_not_hold_comes_by_stream_to_who_can_take_it() {
    let server = server(|question| vec![answer(question, 0x83, 0x80)]).await;
    let cut = ask(&[server], QUESTION, Transport::Datagram).await.unwrap();
    assert_eq!(cut[2] & IS_TRUNCATED, IS_TRUNCATED, "whoever asked asks again by stream");
    let whole = ask(&[server], QUESTION, Transport::Stream).await.unwrap();
    assert_eq!(whole.len(), QUESTION.len() + LONG);
    assert_eq!(whole[..2], QUESTION[..2]);
}

#[test]
fn a_question_that_is_none_is_not_passed_on() {
    assert!(with_id(b"short", [0; 2]).is_err());
    assert_eq!(question_section(&[&QUESTION[..12], &[0xc0, 12]].concat()), None, "it cannot point back");
    assert_eq!(question_section(&QUESTION[..20]), None);
}
