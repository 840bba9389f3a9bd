//! The keyboard controller's reset line: how a kernel reboots a machine without ACPI (`reboot=k`).
//!
//! There is no keyboard; the controller's other commands do nothing.

use std::sync::mpsc::{SendError, Sender};
use std::sync::{Mutex, PoisonError};

use vm_superio::{I8042Device, Trigger};

use crate::bus::BusDevice;
use crate::control::MachineExit;

/// Ends the machine when the guest pulls the line.
struct ResetLine(Sender<MachineExit>);

impl Trigger for ResetLine {
    type E = SendError<MachineExit>;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.send(MachineExit::GuestReset)
    }
}

pub(crate) struct KeyboardController(Mutex<I8042Device<ResetLine>>);

impl KeyboardController {
    pub(crate) fn new(exits: Sender<MachineExit>) -> Self {
        Self(Mutex::new(I8042Device::new(ResetLine(exits))))
    }
}

impl BusDevice for KeyboardController {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut controller = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        data.fill_with(|| u8::try_from(offset).map_or(0xff, |register| controller.read(register)));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Ok(register), [value]) = (u8::try_from(offset), data) else { return };
        let mut controller = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more: the machine is ending for another reason.
        drop(controller.write(register, *value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DATA: u64 = 0;
    const COMMAND: u64 = 4;
    const PULSE_RESET: u8 = 0xfe;

    #[test]
    fn only_the_reset_command_ends_the_machine() {
        let (sender, exits) = mpsc::channel();
        let controller = KeyboardController::new(sender);
        controller.write(COMMAND, &[0xaa]);
        controller.write(DATA, &[PULSE_RESET]);
        controller.write(COMMAND, &[PULSE_RESET, PULSE_RESET]);
        assert!(exits.try_recv().is_err());
        controller.write(COMMAND, &[PULSE_RESET]);
        assert_eq!(exits.try_recv().unwrap(), MachineExit::GuestReset);
    }

    #[test]
    fn the_controller_is_never_busy() {
        let (sender, _exits) = mpsc::channel();
        let mut status = [0xff];
        KeyboardController::new(sender).read(COMMAND, &mut status);
        assert_eq!(status, [0]);
    }
}
