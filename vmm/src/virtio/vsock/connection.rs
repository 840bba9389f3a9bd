//! One vsock connection as a state machine: what it owes the guest, what it may send, when it is over.
//!
//! Pure: no sockets, no clock, no locks. The guest's packets and the host socket's fate come in, packets to send and
//! things to do come out (virtio 1.2, sections 5.10.6.3 to 5.10.6.5). Counters wrap at 32 bits, as on the wire.

use super::packet::{Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// What the guest may have under way to one connection: more is a broken promise and ends it.
pub(super) const BUFFER_BYTES: u32 = 256 << 10;

/// How far the two sides are with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The host asked; the guest has not answered.
    Requested,
    Established,
}

/// What the guest is owed, in the order in which it is sent: data comes before the shutdown alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owed {
    request: bool,
    response: bool,
    credit_update: bool,
    credit_request: bool,
    shutdown: bool,
}

/// What the host's end must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// The guest accepted: tell the host so, bytes may flow.
    Opened,
    /// Hand the packet's data to the host.
    Deliver,
    /// The guest reads no more, or sends no more.
    CloseHostSide {
        no_more_reads: bool,
        no_more_writes: bool,
    },
    /// The guest is done with it: hand over what was received, then close. It is answered with a reset if `reset`.
    End {
        reset: bool,
    },
}

/// A connection between a port of the guest and a socket of the host.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    state: State,
    owed: Owed,
    guest_sends: bool,
    guest_receives: bool,
    host_sends: bool,
    host_receives: bool,
    /// Of the guest's last header: its buffer and what left it.
    guest_buffer: u32,
    guest_forwarded: u32,
    sent: u32,
    received: u32,
    forwarded: u32,
    /// The last `forwarded` that the guest was told.
    told: u32,
    /// It was asked for credit, and has given none since.
    asked_for_credit: bool,
}

impl Connection {
    fn new(state: State, owed: Owed) -> Self {
        Self {
            state,
            owed,
            guest_sends: true,
            guest_receives: true,
            host_sends: true,
            host_receives: true,
            guest_buffer: 0,
            guest_forwarded: 0,
            sent: 0,
            received: 0,
            forwarded: 0,
            told: 0,
            asked_for_credit: false,
        }
    }

    /// A connection the host asks for.
    pub(super) fn requested() -> Self {
        Self::new(State::Requested, Owed { request: true, ..Owed::default() })
    }

    /// A connection the guest asked for with `request`, and the host took.
    pub(super) fn accepted(request: &Header) -> Self {
        let mut accepted = Self::new(State::Established, Owed { response: true, ..Owed::default() });
        accepted.note_credit(request);
        accepted
    }

    /// Takes a packet of the guest's.
    pub(super) fn packet(&mut self, header: &Header) -> Action {
        self.note_credit(header);
        match (self.state, header.operation) {
            (_, Operation::Reset) => Action::End { reset: false },
            (State::Requested, Operation::Response) => {
                self.state = State::Established;
                Action::Opened
            }
            (State::Established, Operation::ReadWrite) => self.data(header.length),
            (State::Established, Operation::Shutdown) => self.shutdown(header.flags),
            (State::Established, Operation::CreditUpdate) => Action::Nothing,
            (State::Established, Operation::CreditRequest) => {
                self.owed.credit_update = true;
                Action::Nothing
            }
            _ => Action::End { reset: true },
        }
    }

    fn note_credit(&mut self, header: &Header) {
        self.guest_buffer = header.buffer_bytes;
        self.guest_forwarded = header.forwarded_bytes;
        if self.guest_room() > 0 {
            self.asked_for_credit = false;
            self.owed.credit_request = false;
        }
    }

    fn data(&mut self, length: u32) -> Action {
        let room = BUFFER_BYTES - self.received.wrapping_sub(self.forwarded);
        if !self.guest_sends || length > room {
            return Action::End { reset: true };
        }
        self.received = self.received.wrapping_add(length);
        Action::Deliver
    }

    fn shutdown(&mut self, flags: u32) -> Action {
        let no_more_reads = self.guest_receives && flags & SHUTDOWN_RECEIVE != 0;
        let no_more_writes = self.guest_sends && flags & SHUTDOWN_SEND != 0;
        self.guest_receives &= !no_more_reads;
        self.guest_sends &= !no_more_writes;
        if !self.guest_receives && !self.guest_sends {
            return Action::End { reset: true };
        }
        Action::CloseHostSide { no_more_reads, no_more_writes }
    }

    /// The host took `bytes` of what the guest sent (or they are of no use to anybody any more).
    pub(super) fn forwarded(&mut self, bytes: usize) {
        self.forwarded = self.forwarded.wrapping_add(wire_count(bytes));
        let believed_room = BUFFER_BYTES.saturating_sub(self.received.wrapping_sub(self.told));
        if self.guest_sends && believed_room <= BUFFER_BYTES / 2 && self.forwarded != self.told {
            self.owed.credit_update = true;
        }
    }

    /// The host will send nothing more.
    pub(super) fn host_stopped_sending(&mut self) {
        self.owed.shutdown |= self.host_sends;
        self.host_sends = false;
    }

    /// The host will take nothing more.
    pub(super) fn host_stopped_receiving(&mut self) {
        self.owed.shutdown |= self.host_receives;
        self.host_receives = false;
    }

    pub(super) fn host_receives(&self) -> bool {
        self.host_receives
    }

    /// Whether the guest said that it sends no more: the host is told once it has taken everything.
    pub(super) fn guest_sends(&self) -> bool {
        self.guest_sends
    }

    /// Bytes that the guest has room for.
    fn guest_room(&self) -> u32 {
        self.guest_buffer.saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    /// How many bytes may be sent to the guest now.
    pub(super) fn sendable_bytes(&self) -> usize {
        let open = self.state == State::Established && !self.owed.response;
        if open && self.host_sends && self.guest_receives { self.guest_room() as usize } else { 0 }
    }

    /// The host has bytes, and the guest no room: it is asked to say when it has, once.
    pub(super) fn ask_for_credit(&mut self) {
        let open = self.state == State::Established && self.host_sends && self.guest_receives;
        if open && self.guest_room() == 0 && !self.asked_for_credit {
            self.asked_for_credit = true;
            self.owed.credit_request = true;
        }
    }

    /// The host asked for it, and the guest does not know yet: it can be forgotten without a word.
    pub(super) fn is_unheard_of(&self) -> bool {
        self.state == State::Requested && self.owed.request
    }

    /// Takes the next packet that the guest is owed, if any: operation and flags.
    pub(super) fn next_owed(&mut self) -> Option<(Operation, u32)> {
        let owed = &mut self.owed;
        if std::mem::take(&mut owed.request) {
            return Some((Operation::Request, 0));
        }
        if std::mem::take(&mut owed.response) {
            return Some((Operation::Response, 0));
        }
        if self.state == State::Requested {
            return None;
        }
        if std::mem::take(&mut owed.credit_update) {
            return Some((Operation::CreditUpdate, 0));
        }
        if std::mem::take(&mut owed.credit_request) {
            return Some((Operation::CreditRequest, 0));
        }
        if std::mem::take(&mut owed.shutdown) {
            let receive = if self.host_receives { 0 } else { SHUTDOWN_RECEIVE };
            let send = if self.host_sends { 0 } else { SHUTDOWN_SEND };
            return Some((Operation::Shutdown, receive | send));
        }
        None
    }

    /// Whether [`Self::next_owed`] would give a packet.
    pub(super) fn owes(&self) -> bool {
        match self.state {
            State::Requested => self.owed.request,
            State::Established => self.owed != Owed::default(),
        }
    }

    /// Accounts for a packet that leaves for the guest with `length` bytes of data: gives the buffer size and the
    /// count of forwarded bytes that its header tells.
    pub(super) fn leaving(&mut self, length: usize) -> (u32, u32) {
        self.sent = self.sent.wrapping_add(wire_count(length));
        self.told = self.forwarded;
        self.owed.credit_update = false;
        (BUFFER_BYTES, self.forwarded)
    }
}

fn wire_count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("bounded by a credit of 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of the guest's, which has 1000 bytes of buffer and has taken nothing.
    fn packet(operation: Operation) -> Header {
        Header {
            source_cid: 3,
            destination_cid: 2,
            source_port: 10,
            destination_port: 20,
            length: 0,
            socket_type: 1,
            operation,
            flags: 0,
            buffer_bytes: 1000,
            forwarded_bytes: 0,
        }
    }

    fn data(length: u32) -> Header {
        Header { length, ..packet(Operation::ReadWrite) }
    }

    fn shutdown(flags: u32) -> Header {
        Header { flags, ..packet(Operation::Shutdown) }
    }

    fn established() -> Connection {
        let mut connection = Connection::accepted(&packet(Operation::Request));
        assert_eq!(connection.next_owed(), Some((Operation::Response, 0)));
        connection
    }

    #[test]
    fn every_packet_in_every_state_has_one_answer() {
        use Operation::*;
        const REFUSED: Action = Action::End { reset: true };
        let requested: &[(Operation, Action)] = &[
            (Request, REFUSED),
            (Response, Action::Opened),
            (Reset, Action::End { reset: false }),
            (Shutdown, REFUSED),
            (ReadWrite, REFUSED),
            (CreditUpdate, REFUSED),
            (CreditRequest, REFUSED),
            (Unknown(0), REFUSED),
            (Unknown(8), REFUSED),
        ];
        let open: &[(Operation, Action)] = &[
            (Request, REFUSED),
            (Response, REFUSED),
            (Reset, Action::End { reset: false }),
            (Shutdown, Action::CloseHostSide { no_more_reads: false, no_more_writes: false }),
            (ReadWrite, Action::Deliver),
            (CreditUpdate, Action::Nothing),
            (CreditRequest, Action::Nothing),
            (Unknown(0), REFUSED),
            (Unknown(8), REFUSED),
        ];
        for (state, table) in [(Connection::requested(), requested), (established(), open)] {
            for (operation, action) in table {
                assert_eq!(state.clone().packet(&packet(*operation)), *action, "{state:?} and {operation:?}");
            }
        }
    }

    #[test]
    fn a_request_is_owed_first_and_nothing_before_the_answer() {
        let mut connection = Connection::requested();
        assert!(connection.owes() && connection.is_unheard_of());
        assert_eq!(connection.next_owed(), Some((Operation::Request, 0)));
        connection.host_stopped_sending();
        assert!(!connection.owes() && !connection.is_unheard_of());
        assert_eq!(connection.next_owed(), None);
        assert_eq!(connection.packet(&packet(Operation::Response)), Action::Opened);
        assert_eq!(connection.next_owed(), Some((Operation::Shutdown, SHUTDOWN_SEND)));
        assert_eq!(connection.next_owed(), None);
    }

    #[test]
    fn no_more_is_sent_than_the_guest_has_room_for() {
        let mut connection = established();
        assert_eq!(connection.sendable_bytes(), 1000);
        connection.leaving(600);
        assert_eq!(connection.sendable_bytes(), 400);
        connection.leaving(400);
        assert_eq!(connection.sendable_bytes(), 0);
        connection.packet(&Header { forwarded_bytes: 700, ..packet(Operation::CreditUpdate) });
        assert_eq!(connection.sendable_bytes(), 700);
        connection.packet(&Header { buffer_bytes: 10, ..packet(Operation::CreditUpdate) });
        assert_eq!(connection.sendable_bytes(), 0, "a buffer that shrank, a count that ran backwards");
    }

    #[test]
    fn a_guest_without_room_is_asked_once() {
        let mut connection = established();
        connection.ask_for_credit();
        assert!(!connection.owes(), "it has room");
        connection.leaving(1000);
        for _ in 0..3 {
            connection.ask_for_credit();
        }
        assert_eq!(connection.next_owed(), Some((Operation::CreditRequest, 0)));
        connection.packet(&packet(Operation::CreditUpdate));
        connection.ask_for_credit();
        assert_eq!(connection.next_owed(), None, "it said that it has none");
        connection.packet(&Header { forwarded_bytes: 1000, ..packet(Operation::CreditUpdate) });
        connection.leaving(1000);
        connection.ask_for_credit();
        assert_eq!(connection.next_owed(), Some((Operation::CreditRequest, 0)));
    }

    #[test]
    fn a_guest_that_sends_more_than_its_credit_is_refused() {
        let mut connection = established();
        assert_eq!(connection.packet(&data(BUFFER_BYTES)), Action::Deliver);
        assert_eq!(connection.clone().packet(&data(1)), Action::End { reset: true });
        connection.forwarded(10);
        assert_eq!(connection.clone().packet(&data(11)), Action::End { reset: true });
        assert_eq!(connection.packet(&data(10)), Action::Deliver);
        assert_eq!(established().packet(&data(u32::MAX)), Action::End { reset: true });
    }

    #[test]
    fn the_guest_hears_of_credit_before_it_runs_out() {
        let mut connection = established();
        connection.packet(&data(BUFFER_BYTES / 2 - 1));
        connection.forwarded(1);
        assert!(!connection.owes(), "more than half is left");
        connection.packet(&data(1));
        connection.forwarded(1);
        assert_eq!(connection.next_owed(), Some((Operation::CreditUpdate, 0)));
        assert_eq!(connection.leaving(0), (BUFFER_BYTES, 2));
        connection.forwarded(5);
        assert!(!connection.owes(), "now it knows of more than half");
        connection.packet(&data(2));
        connection.forwarded(1);
        assert!(connection.owes());
        assert_eq!(connection.leaving(100), (BUFFER_BYTES, 8));
        assert!(!connection.owes(), "any packet carries the credit");
    }

    #[test]
    fn counters_wrap_as_on_the_wire() {
        let mut connection = established();
        let rounds = u32::MAX / BUFFER_BYTES + 2;
        for round in 1..=rounds {
            assert_eq!(connection.packet(&data(BUFFER_BYTES)), Action::Deliver, "round {round}");
            connection.forwarded(BUFFER_BYTES as usize);
            connection.leaving(1000);
            let sent = round.wrapping_mul(1000);
            connection.packet(&Header { forwarded_bytes: sent, ..packet(Operation::CreditUpdate) });
            assert_eq!(connection.sendable_bytes(), 1000, "round {round}");
        }
    }

    #[test]
    fn the_guest_closes_one_side_then_the_other() {
        let mut connection = established();
        let reads_no_more = Action::CloseHostSide { no_more_reads: true, no_more_writes: false };
        assert_eq!(connection.packet(&shutdown(SHUTDOWN_RECEIVE)), reads_no_more);
        assert_eq!(connection.sendable_bytes(), 0);
        let nothing_new = Action::CloseHostSide { no_more_reads: false, no_more_writes: false };
        assert_eq!(connection.packet(&shutdown(SHUTDOWN_RECEIVE)), nothing_new);
        assert_eq!(connection.packet(&data(1)), Action::Deliver, "it still sends");
        assert_eq!(connection.packet(&shutdown(SHUTDOWN_SEND)), Action::End { reset: true });
    }

    #[test]
    fn a_guest_that_said_it_sends_no_more_and_does_is_refused() {
        let mut connection = established();
        let sends_no_more = Action::CloseHostSide { no_more_reads: false, no_more_writes: true };
        assert_eq!(connection.packet(&shutdown(SHUTDOWN_SEND)), sends_no_more);
        assert!(!connection.guest_sends());
        assert_eq!(connection.sendable_bytes(), 1000, "it still receives");
        assert_eq!(connection.packet(&data(1)), Action::End { reset: true });
    }

    #[test]
    fn the_host_closes_one_side_then_the_other() {
        let mut connection = established();
        connection.host_stopped_sending();
        assert_eq!(connection.next_owed(), Some((Operation::Shutdown, SHUTDOWN_SEND)));
        assert_eq!(connection.sendable_bytes(), 0);
        connection.host_stopped_sending();
        assert!(!connection.owes(), "it is said once");
        connection.host_stopped_receiving();
        assert_eq!(connection.next_owed(), Some((Operation::Shutdown, SHUTDOWN_SEND | SHUTDOWN_RECEIVE)));
        assert_eq!(connection.packet(&data(1)), Action::Deliver, "what was under way is no offence");
    }

    #[test]
    fn what_is_owed_goes_out_in_order() {
        let mut connection = Connection::accepted(&packet(Operation::Request));
        connection.packet(&data(BUFFER_BYTES));
        connection.forwarded(BUFFER_BYTES as usize);
        connection.host_stopped_sending();
        assert_eq!(connection.sendable_bytes(), 0, "no data before the response");
        let order = std::iter::from_fn(|| connection.next_owed()).map(|(operation, _)| operation);
        assert_eq!(
            order.collect::<Vec<_>>(),
            [Operation::Response, Operation::CreditUpdate, Operation::Shutdown]
        );
    }
}
