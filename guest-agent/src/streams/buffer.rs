//! What is kept of one output stream: the bytes that the host does not have for good yet.
//!
//! Pure bookkeeping, no I/O:
//!
//! ```text
//!   0 ............ acknowledged ################ end
//!     forgotten                 kept, at most LIMIT
//! ```

use std::collections::VecDeque;

/// Bytes kept per stream; a process that writes more waits, as it would on a full pipe.
pub(super) const LIMIT_BYTES: usize = 256 << 10;

/// An acknowledgement of bytes that were never there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("acknowledged {acknowledged} bytes of a stream of {end}")]
pub(super) struct BeyondTheEnd {
    acknowledged: u64,
    end: u64,
}

/// Grows with what is in it.
#[derive(Debug, Default)]
pub(super) struct OutputBuffer {
    kept: VecDeque<u8>,
    acknowledged: u64,
    ended: bool,
}

impl OutputBuffer {
    /// How many bytes may be appended.
    pub(super) fn room(&self) -> usize {
        LIMIT_BYTES.saturating_sub(self.kept.len())
    }

    /// Takes what the process has written; the caller has asked for [`OutputBuffer::room`].
    pub(super) fn append(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "more was read than there is room for");
        self.kept.extend(bytes);
    }

    /// The process has closed the stream.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The stream's length so far.
    pub(super) fn end_offset(&self) -> u64 {
        self.acknowledged.saturating_add(self.kept.len() as u64)
    }

    /// The first offset that can still be sent, at or after the one that is wanted.
    pub(super) fn start_for(&self, wanted: u64) -> u64 {
        wanted.max(self.acknowledged)
    }

    /// Up to `limit` bytes from an offset of the stream, or fewer: what follows comes with the next call. None if they
    /// are not there yet, or not any more.
    pub(super) fn from(&self, offset: u64, limit: usize) -> &[u8] {
        let skipped = offset.checked_sub(self.acknowledged).and_then(|skipped| usize::try_from(skipped).ok());
        let Some(start) = skipped.filter(|start| *start < self.kept.len()) else {
            return &[];
        };
        let (front, back) = self.kept.as_slices();
        let piece = front.get(start..).filter(|piece| !piece.is_empty());
        let piece = piece.unwrap_or_else(|| &back[start - front.len()..]);
        &piece[..limit.min(piece.len())]
    }

    /// The host has the first `count` bytes of the stream for good. An older acknowledgement changes nothing.
    pub(super) fn acknowledge(&mut self, count: u64) -> Result<(), BeyondTheEnd> {
        let end = self.end_offset();
        if count > end {
            return Err(BeyondTheEnd { acknowledged: count, end });
        }
        let freed = usize::try_from(count.saturating_sub(self.acknowledged)).expect("not more than is kept");
        self.kept.drain(..freed);
        self.acknowledged = self.acknowledged.max(count);
        if self.kept.is_empty() && self.ended {
            self.kept = VecDeque::new();
        }
        Ok(())
    }

    /// Whether the host has all there ever will be.
    pub(super) fn is_drained(&self) -> bool {
        self.ended && self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_kept_until_they_are_acknowledged() {
        let mut buffer = OutputBuffer::default();
        buffer.append(b"hello");
        assert_eq!(buffer.from(0, 100), b"hello");
        buffer.acknowledge(2).unwrap();
        assert_eq!(buffer.from(2, 2), b"ll");
        assert_eq!(buffer.from(0, 100), b"", "gone");
        assert_eq!(buffer.start_for(0), 2);
        assert_eq!(buffer.end_offset(), 5);
    }

    #[test]
    fn a_host_cannot_acknowledge_the_future() {
        let mut buffer = OutputBuffer::default();
        buffer.append(b"abc");
        assert_eq!(buffer.acknowledge(4), Err(BeyondTheEnd { acknowledged: 4, end: 3 }));
        assert_eq!(buffer.from(0, 3), b"abc");
        assert!(buffer.acknowledge(u64::MAX).is_err());
    }

    #[test]
    fn an_old_acknowledgement_changes_nothing() {
        let mut buffer = OutputBuffer::default();
        buffer.append(b"abc");
        buffer.acknowledge(3).unwrap();
        buffer.acknowledge(1).unwrap();
        assert_eq!(buffer.end_offset(), 3);
    }

    #[test]
    fn it_is_drained_when_it_has_ended_and_all_is_acknowledged() {
        let mut buffer = OutputBuffer::default();
        assert!(!buffer.is_drained());
        buffer.append(b"a");
        buffer.end();
        assert!(!buffer.is_drained());
        buffer.acknowledge(1).unwrap();
        assert!(buffer.is_drained());
    }

    #[test]
    fn room_shrinks_and_comes_back() {
        let mut buffer = OutputBuffer::default();
        buffer.append(&vec![7; LIMIT_BYTES]);
        assert_eq!(buffer.room(), 0);
        buffer.acknowledge(10).unwrap();
        assert_eq!(buffer.room(), 10);
    }

    proptest! {
        /// Whatever is written, read and acknowledged in whatever pieces: the host sees the stream as it was written.
        #[test]
        fn the_host_sees_every_byte_in_order(
            steps in prop::collection::vec((0_usize..3000, 1_usize..5000, 0_u64..4000), 1..60),
        ) {
            let mut buffer = OutputBuffer::default();
            let (mut written, mut seen) = (Vec::new(), Vec::new());
            let mut bytes = (0..=250_u8).cycle();
            for (length, limit, behind) in steps {
                let piece: Vec<u8> = bytes.by_ref().take(length.min(buffer.room())).collect();
                buffer.append(&piece);
                written.extend(piece);
                seen.extend(buffer.from(seen.len() as u64, limit));
                buffer.acknowledge((seen.len() as u64).saturating_sub(behind)).unwrap();
                prop_assert!(written.starts_with(&seen));
                prop_assert_eq!(buffer.end_offset(), written.len() as u64);
            }
            while seen.len() < written.len() {
                let piece = buffer.from(seen.len() as u64, usize::MAX);
                prop_assert!(!piece.is_empty());
                seen.extend(piece);
            }
            prop_assert_eq!(seen, written);
        }
    }
}
