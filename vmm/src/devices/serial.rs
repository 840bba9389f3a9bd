//! The first serial port (16550): early boot messages and panics, into the console log.
//!
//! Output only. Nothing is ever typed at it.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial, SerialState};
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

    pub(crate) fn save(&self) -> SavedSerialPort {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner).state();
        SavedSerialPort {
            divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
        }
    }

    /// Goes on as another machine's port did.
    ///
    /// # Errors
    /// The host has no more descriptors.
    pub(crate) fn restore(&self, saved: &SavedSerialPort) -> io::Result<()> {
        let state = SerialState {
            baud_divisor_low: saved.divisor[0],
            baud_divisor_high: saved.divisor[1],
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: Vec::new(),
        };
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupt = Interrupt(port.interrupt_evt().0.try_clone()?);
        let output = Output(port.writer().0.clone());
        *port = Serial::from_state(&state, interrupt, NoEvents, output)
            .map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(())
    }
}

/// The port's registers; there is no input that could wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedSerialPort {
    divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
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
