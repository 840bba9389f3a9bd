//! From spawning the monitor to the guest's first byte: goals 1 and 2.

use super::super::figures::Figures;
use super::monitor::{Guest, Host, Side};
use crate::progress;

/// Where the host interprets it, a kernel takes seconds to its first word; what is executed until then is the same.
const KERNEL_RUNS: u32 = 6;

pub(super) struct Measured {
    pub(super) runs: u32,
    pub(super) stub: Pair,
    /// The next two are empty without a kernel.
    pub(super) large_stub: Pair,
    pub(super) kernel: Pair,
}

/// Both sides of one comparison.
#[derive(Default)]
pub(super) struct Pair {
    pub(super) ours: Figures,
    /// Empty without QEMU.
    pub(super) peer: Figures,
}

pub(super) fn measure(host: &Host, runs: u32) -> anyhow::Result<Measured> {
    progress::heading(format_args!("{runs} starts of each monitor, a guest that writes a byte"));
    let stub = interleaved(host, Guest::Stub, runs)?;
    let (mut large_stub, mut kernel) = (Pair::default(), Pair::default());
    if host.kernel.is_some() {
        progress::heading(format_args!(
            "{runs} starts of each monitor, a guest as large as the product's kernel"
        ));
        large_stub = interleaved(host, Guest::LargeStub, runs)?;
        progress::heading(format_args!("{KERNEL_RUNS} starts of each monitor, the product's kernel"));
        kernel = interleaved(host, Guest::Kernel, KERNEL_RUNS)?;
    } else {
        progress::note("no kernel in the cache (cargo xtask kernel): measuring without");
    }
    Ok(Measured { runs, stub, large_stub, kernel })
}

/// A B B A: neither side always comes first.
fn interleaved(host: &Host, guest: Guest, runs: u32) -> anyhow::Result<Pair> {
    let mut pair = Pair::default();
    let has_peer = Host::has_peer();
    for round in 0..runs {
        let sides = if round % 2 == 0 { [Side::Ours, Side::Peer] } else { [Side::Peer, Side::Ours] };
        for side in sides.into_iter().filter(|side| *side == Side::Ours || has_peer) {
            let took = host.start(side, guest)?.first_byte_after;
            match side {
                Side::Ours => pair.ours.add(took),
                Side::Peer => pair.peer.add(took),
            }
        }
    }
    Ok(pair)
}
