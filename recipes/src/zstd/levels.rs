//! What a level costs: windows and tables of libzstd, from its default parameters for large inputs.
//!
//! Used to declare memory and to tell which levels a frame's window can come from. The tables did not change from 1.5.1
//! to 1.5.7; were they wrong, a frame would not be found, or a declaration be off: no byte depends on them.

use super::ZstdParams;

/// Window, chain and hash logarithms of the levels 1 to 22.
const LEVELS: [(u8, u8, u8); 22] = [
    (19, 13, 14),
    (20, 15, 16),
    (21, 16, 17),
    (21, 18, 18),
    (21, 18, 19),
    (21, 18, 19),
    (21, 19, 20),
    (21, 19, 20),
    (22, 20, 21),
    (22, 21, 22),
    (22, 21, 22),
    (22, 22, 23),
    (22, 22, 22),
    (22, 22, 23),
    (22, 23, 23),
    (22, 22, 22),
    (23, 23, 22),
    (23, 23, 22),
    (23, 24, 22),
    (25, 25, 23),
    (26, 26, 24),
    (27, 27, 25),
];

/// The levels in the order in which they are tried: those of image builders first.
pub(super) const BY_LIKELIHOOD: [u8; 22] = [
    3, 9, 15, 19, 1, 22, 10, 12, 6, 7, 8, 5, 4, 2, 11, 13, 14, 16, 17, 18, 20, 21,
];

/// Logarithm of the window that a level takes by itself for a large input.
pub(super) fn window_log(level: u8) -> Option<u8> {
    LEVELS
        .get(usize::from(level).checked_sub(1)?)
        .map(|(window, _, _)| *window)
}

/// Upper bounds of what an encoder takes, in bytes.
pub(super) struct Footprint {
    /// Memory that it touches.
    pub(super) resident: u64,
    /// Memory that it reserves, with what threads reserve besides.
    pub(super) address_space: u64,
}

/// The footprint of encoding `inner` bytes.
pub(super) fn footprint(params: &ZstdParams, inner: u64, threads: u32) -> Footprint {
    let index = usize::from(params.level.clamp(1, 22)) - 1;
    let (mut window, mut chain, mut hash) = LEVELS.get(index).copied().unwrap_or((27, 27, 25));
    if params.window_log != 0 {
        window = params.window_log.min(31);
    }
    if params.pledged {
        // libzstd shrinks what is larger than the input, never below 1 KiB.
        let enough = u8::try_from(u64::BITS - inner.leading_zeros())
            .unwrap_or(64)
            .max(10);
        window = window.min(enough);
        chain = chain.min(enough + 1);
        hash = hash.min(enough + 1);
    }
    // Four bytes an entry, and tags for the row hash.
    let tables = (4u64 << chain) + (6u64 << hash) + (8 << 20);
    let long = if params.long {
        16u64 << window.saturating_sub(7)
    } else {
        0
    };
    if !params.workers {
        let resident = tables + long + (1u64 << window).min(inner) + (2 << 20);
        return Footprint {
            resident,
            address_space: resident + (64 << 20),
        };
    }
    let threads = u64::from(threads.clamp(1, 64));
    let job = 1u64
        << if params.long {
            (chain + 3).max(21)
        } else {
            (window + 2).max(20)
        };
    let input = (job * threads).max(1u64 << window) + 3 * job;
    // One output buffer a job in flight; random data does not shrink.
    let output = (threads + 2) * job;
    let resident = tables * threads + long + input.min(inner) + output.min(inner);
    let reserved = tables * threads + long + input + (2 * threads + 4) * (job + job / 128);
    // An arena and a stack a thread.
    Footprint {
        resident,
        address_space: reserved + threads * (72 << 20) + (256 << 20),
    }
}
