//! The one program of the `hello-world` image: it says that a container ran, and what that took.
//!
//! It looks at nothing and needs nothing, so that it works in every container that works at all.

use std::io::{self, Write};
use std::process::ExitCode;

const MESSAGE: &str = "
Hello from Berth!

You are reading this because a container has just run in a virtual machine of its own:

 1. Your client asked the Berth daemon to run the image \"hello-world\".
 2. The daemon made a read-only disk of that image and started a small machine with it.
 3. The machine booted its own Linux kernel; inside, Berth's agent mounted the disk,
    set up namespaces and a control group, and started this program in them.
 4. The program wrote these lines. They left the machine over a virtual socket, and the
    daemon passed them on to your terminal.

For something to walk around in, try:

    berth run -it --rm busybox sh

";

fn main() -> ExitCode {
    match io::stdout().write_all(MESSAGE.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
