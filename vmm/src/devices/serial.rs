//! The first serial port (16550): early boot messages and panics, into the console log.
//!
//! Output only. Nothing is ever typed at it.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;
use crate::kvm_machine::Console;

/// Pulses the port's interrupt line.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Where the port's bytes go.
struct Output(Console);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct SerialPort(Mutex<Serial<Interrupt, NoEvents, Output>>);

impl SerialPort {
    /// What the guest sends goes to `console`; `interrupt` is connected to the port's line.
    pub(crate) fn new(interrupt: EventFd, console: Console) -> Self {
        Self(Mutex::new(Serial::new(Interrupt(interrupt), Output(console))))
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // All registers are bytes. A string instruction arrives as one access and repeats one register.
        data.fill_with(|| u8::try_from(offset).map_or(0xff, |register| port.read(register)));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Ok(register) = u8::try_from(offset) else { return };
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for value in data {
            // Its interrupt cannot be raised when 2^64 of them wait; then one is on its way anyhow.
            drop(port.write(register, *value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Register offsets and bits of a 16550.
    const DATA: u64 = 0;
    const INTERRUPT_ENABLE: u64 = 1;
    const LINE_STATUS: u64 = 5;
    const TRANSMITTER_EMPTY: u8 = 0x20;

    fn port() -> (SerialPort, EventFd) {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        (SerialPort::new(interrupt.try_clone().unwrap(), Arc::new(|_| {})), interrupt)
    }

    #[test]
    fn bytes_and_strings_arrive_in_order() {
        let printed = Arc::new(Mutex::new(Vec::new()));
        let console: Console = {
            let printed = printed.clone();
            Arc::new(move |bytes| printed.lock().unwrap().extend_from_slice(bytes))
        };
        let port = SerialPort::new(EventFd::new(libc::EFD_NONBLOCK).unwrap(), console);
        port.write(DATA, b"H");
        port.write(DATA, b"ello");
        assert_eq!(*printed.lock().unwrap(), b"Hello");
    }

    #[test]
    fn the_transmitter_is_always_ready() {
        let (port, _interrupt) = port();
        let mut status = [0];
        port.read(LINE_STATUS, &mut status);
        assert_eq!(status[0] & TRANSMITTER_EMPTY, TRANSMITTER_EMPTY);
    }

    #[test]
    fn a_driver_that_asks_for_interrupts_gets_one() {
        let (port, interrupt) = port();
        port.write(INTERRUPT_ENABLE, &[2]);
        assert!(interrupt.read().is_ok());
    }

    #[test]
    fn offsets_out_of_range_are_harmless() {
        let (port, _interrupt) = port();
        let mut data = [0; 8];
        port.read(1 << 40, &mut data);
        port.write(1 << 40, &data);
        assert_eq!(data, [0xff; 8]);
    }
}
