//! Frames of the protocol (RFC 6455, section 5): from a client, which masks them, and to it, unmasked. Payloads are passed on
//! as they come; no message is put together, since what is carried is a stream of bytes.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Of a payload passed on at once.
const PIECE_BYTES: usize = 32 * 1024;
/// Section 5.5.
const MAX_CONTROL_BYTES: u64 = 125;
/// Status 1000 of a close frame, section 7.4.1.
pub(super) const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn parse(number: u8) -> Option<Self> {
        let all = [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| *opcode as u8 == number)
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What a client sends.
#[derive(Debug)]
pub(super) struct Inbound<R> {
    reader: R,
    /// Payloads of pings, for whoever writes.
    pings: mpsc::Sender<Bytes>,
    /// Of the frame that is being read.
    left_bytes: u64,
    mask: Mask,
    /// Whether the message that is being read goes on in another frame.
    continues: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mask {
    key: [u8; 4],
    /// Of the payload, so far.
    bytes: usize,
}

impl Mask {
    fn take_off(&mut self, payload: &mut [u8]) {
        for byte in payload {
            *byte ^= self.key[self.bytes % 4];
            self.bytes += 1;
        }
    }
}

struct Head {
    opcode: Opcode,
    is_final: bool,
    length: u64,
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    pub(super) fn new(reader: R, pings: mpsc::Sender<Bytes>) -> Self {
        Self { reader, pings, left_bytes: 0, mask: Mask::default(), continues: false }
    }

    /// The next bytes of the client's messages, never none; nothing once it has closed.
    ///
    /// # Errors
    /// A connection that breaks, or that carries something else.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.left_bytes == 0 {
            let Some(head) = self.head().await? else { return Ok(None) };
            if !head.opcode.is_control() {
                // A message begins with its kind, and its further frames have none.
                if self.continues != (head.opcode == Opcode::Continuation) {
                    return Err(wrong("frames of a message are out of order"));
                }
                self.continues = !head.is_final;
                self.left_bytes = head.length;
                continue;
            }
            let payload = self.control(&head).await?;
            match head.opcode {
                Opcode::Close => return Ok(None),
                // Whoever would write has gone, and with it who would read.
                Opcode::Ping => self.pings.send(payload).await.unwrap_or_default(),
                _ => {}
            }
        }
        let most = usize::try_from(self.left_bytes).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut payload = vec![0; most];
        let count = self.reader.read(&mut payload).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        payload.truncate(count);
        self.left_bytes -= count as u64;
        self.mask.take_off(&mut payload);
        Ok(Some(payload.into()))
    }

    async fn control(&mut self, head: &Head) -> io::Result<Bytes> {
        if !head.is_final || head.length > MAX_CONTROL_BYTES {
            return Err(wrong("a control frame is too long or goes on in another"));
        }
        let mut payload = vec![0; usize::try_from(head.length).map_err(io::Error::other)?];
        self.reader.read_exact(&mut payload).await?;
        self.mask.take_off(&mut payload);
        Ok(payload.into())
    }

    /// The beginning of a frame; nothing where the connection ends instead.
    async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut first = [0];
        if self.reader.read(&mut first).await? == 0 {
            return Ok(None);
        }
        let [first] = first;
        let opcode = Opcode::parse(first & 0x0f).filter(|_| first & RESERVED == 0);
        let opcode = opcode.ok_or_else(|| wrong("a frame of an unknown kind"))?;
        let second = self.reader.read_u8().await?;
        if second & MASKED == 0 {
            return Err(wrong("a client's frame is not masked"));
        }
        let length = match second & !MASKED {
            126 => self.reader.read_u16().await?.into(),
            127 => self.reader.read_u64().await?,
            length => length.into(),
        };
        self.mask = Mask::default();
        self.reader.read_exact(&mut self.mask.key).await?;
        Ok(Some(Head { opcode, is_final: first & FINAL != 0, length }))
    }
}

/// Writes one frame that is a whole message.
///
/// # Errors
/// A connection that breaks.
pub(super) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    opcode: Opcode,
    payload: &[u8],
) -> io::Result<()> {
    let mut head = vec![FINAL | opcode as u8];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => head.push(length),
        (_, Ok(length)) => {
            head.push(126);
            head.extend(length.to_be_bytes());
        }
        (_, Err(_longer)) => {
            head.push(127);
            head.extend((payload.len() as u64).to_be_bytes());
        }
    }
    writer.write_all(&head).await?;
    writer.write_all(payload).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 255];

    fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
        let masked = payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
        [&[first][..], length, &KEY].concat().into_iter().chain(masked).collect()
    }

    /// Everything that `bytes` carry, how they ended, and the pings among them.
    fn read(bytes: &[u8]) -> (Vec<u8>, Option<String>, Vec<Bytes>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (pings, mut pinged) = mpsc::channel(bytes.len() + 1);
        let mut inbound = Inbound::new(bytes, pings);
        let mut payload = Vec::new();
        let end = loop {
            match runtime.block_on(inbound.next()) {
                Ok(Some(piece)) => payload.extend(piece),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        (payload, end, std::iter::from_fn(|| pinged.try_recv().ok()).collect())
    }

    #[test]
    fn payloads_of_all_lengths_are_unmasked_and_joined() {
        let long = vec![7; 70_000];
        let bytes = [
            frame(0x02, &[0x80 | 2], b"he"),
            frame(0x89, &[0x80 | 1], b"?"),
            frame(0x80, &[0x80 | 3], b"llo"),
            frame(0x81, &[0x80], b""),
            frame(0x82, &[0x80 | 126, 0, 200], &[9; 200]),
            frame(0x82, &[0x80 | 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70], &long),
            frame(0x88, &[0x80 | 2], &NORMAL_CLOSURE),
            b"what follows a close is not read".to_vec(),
        ];
        let (payload, end, pings) = read(&bytes.concat());
        assert_eq!(payload, [b"hello".to_vec(), vec![9; 200], long].concat());
        assert_eq!((end, pings), (None, vec![Bytes::from_static(b"?")]));
    }

    #[test]
    fn what_is_no_frame_of_a_client_is_an_error() {
        for (bytes, words) in [
            (vec![0x82, 5, 0, 0], "not masked"),
            (frame(0xc2, &[0x80], b""), "unknown kind"),
            (frame(0x83, &[0x80], b""), "unknown kind"),
            (frame(0x80, &[0x80], b""), "out of order"),
            ([frame(0x02, &[0x80], b""), frame(0x82, &[0x80], b"")].concat(), "out of order"),
            (frame(0x09, &[0x80], b""), "control frame"),
            (frame(0x89, &[0x80 | 126, 0, 126], &[0; 126]), "control frame"),
            (frame(0x82, &[0x80 | 9], b"broken"), "unexpected end of file"),
            (
                frame(0x82, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"huge"),
                "unexpected end of file",
            ),
            (vec![0x82], "unexpected end of file"),
        ] {
            let end = read(&bytes).1.unwrap_or_default();
            assert!(end.contains(words), "{bytes:x?} {end}");
        }
    }

    #[test]
    fn frames_to_a_client_say_their_length() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (length, head) in [
            (0_usize, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (0x1_0000, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut written = Vec::new();
            runtime.block_on(write(&mut written, Opcode::Binary, &vec![5; length])).unwrap();
            assert_eq!(&written[..head.len()], head);
            assert_eq!(written.len(), head.len() + length);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(read(&bytes).0.len() <= bytes.len());
        }
    }
}
