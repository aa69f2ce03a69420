//! xz: one stream, made by the `xz` command or by what calls liblzma as the command does.
//!
//! liblzma's output did not change from 5.4 to 5.8 for the same parameters, so the linked one stands for all; whether it
//! really gives the bytes is proven for every recipe.

mod encode;
mod format;
mod search;

use liblzma::stream::{Filters, LzmaOptions, MatchFinder, Mode, MtStreamBuilder};

pub(crate) use format::{decode, decoder_memory};
pub(crate) use search::open;

use crate::Error;

/// Generation of the linked encoder: liblzma 5.8 of the crate liblzma 0.4.9. Raised when its bytes change.
pub(crate) const GENERATION: u8 = 1;
/// Name of the linked encoder in lists of what is needed.
pub(crate) const NAME: &str = "xz 5.8";

/// How an xz stream is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XzParams {
    /// The check of every block.
    pub check: Check,
    /// Filters for machine code, before LZMA2: at most [`MAX_FILTERS`].
    pub filters: Vec<Branch>,
    /// The LZMA2 encoder.
    pub lzma: Lzma,
    /// How the stream is cut into blocks.
    pub layout: Layout,
}

/// Most filters before LZMA2 that the format allows.
pub const MAX_FILTERS: usize = 3;

/// Check of a block, by its number in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None.
    None = 0,
    /// CRC-32, for what the kernel decodes.
    Crc32 = 1,
    /// CRC-64, the default.
    Crc64 = 4,
    /// SHA-256.
    Sha256 = 10,
}

impl Check {
    pub(crate) fn from_id(id: u8) -> Option<Self> {
        [Self::None, Self::Crc32, Self::Crc64, Self::Sha256]
            .into_iter()
            .find(|check| *check as u8 == id)
    }
}

/// Filter for the machine code of an architecture, by its number in the format; from offset zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// x86, 32 and 64 bits.
    X86 = 4,
    /// 32-bit ARM.
    Arm = 7,
    /// Thumb.
    ArmThumb = 8,
    /// 64-bit ARM.
    Arm64 = 10,
    /// RISC-V.
    RiscV = 11,
}

impl Branch {
    pub(crate) fn from_id(id: u64) -> Option<Self> {
        [
            Self::X86,
            Self::Arm,
            Self::ArmThumb,
            Self::Arm64,
            Self::RiscV,
        ]
        .into_iter()
        .find(|branch| *branch as u64 == id)
    }
}

/// Parameters of LZMA2, named as liblzma does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lzma {
    /// Dictionary in bytes, 4 KiB to 1 GiB.
    pub dict: u32,
    /// Literal context bits; with `lp` at most 4.
    pub lc: u8,
    /// Literal position bits.
    pub lp: u8,
    /// Position bits, at most 4.
    pub pb: u8,
    /// The fast mode in place of the normal one.
    pub fast: bool,
    /// Length of a match that is nice enough, 2 to 273.
    pub nice: u16,
    /// Match finder, by liblzma's number: 3 and 4 for hash chains, 18 to 20 for binary trees.
    pub finder: u8,
    /// Steps of the match finder, 0 for its own choice; at most 1,000.
    pub depth: u16,
}

/// Bounds of [`Lzma`]: `dict` to 1 GiB, as the memory is declared anyway.
pub(crate) const DICT: std::ops::RangeInclusive<u32> = 4096..=1 << 30;
pub(crate) const NICE: std::ops::RangeInclusive<u16> = 2..=273;
pub(crate) const DEPTH: u16 = 1000;

/// How a stream is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One block without sizes in its header: `xz` with one thread.
    Whole,
    /// Blocks of so many bytes without sizes: `xz --threads=1 --block-size`.
    Cut(u64),
    /// Blocks of up to so many bytes, with sizes in their headers: `xz --threads=0`, the default since 5.6.
    Threaded(u64),
}

/// Largest block of a threaded stream, in bytes: it is held in memory.
pub(crate) const MAX_THREADED_BLOCK: u64 = 1 << 30;

impl Lzma {
    /// Whether liblzma takes the parameters.
    pub(crate) fn is_valid(&self) -> bool {
        DICT.contains(&self.dict)
            && NICE.contains(&self.nice)
            && self.lc <= 4
            && self.lp <= 4
            && self.lc + self.lp <= 4
            && self.pb <= 4
            && matches!(self.finder, 3 | 4 | 18..=20)
            && self.depth <= DEPTH
    }

    fn options(&self) -> Option<LzmaOptions> {
        // Checked here because some setters of the crate assert.
        if !self.is_valid() {
            return None;
        }
        let finder = match self.finder {
            3 => MatchFinder::HashChain3,
            4 => MatchFinder::HashChain4,
            18 => MatchFinder::BinaryTree2,
            19 => MatchFinder::BinaryTree3,
            20 => MatchFinder::BinaryTree4,
            _ => return None,
        };
        let mut options = LzmaOptions::new_preset(6).ok()?;
        options
            .dict_size(self.dict)
            .literal_context_bits(u32::from(self.lc))
            .literal_position_bits(u32::from(self.lp))
            .position_bits(u32::from(self.pb))
            .mode(if self.fast { Mode::Fast } else { Mode::Normal })
            .nice_len(u32::from(self.nice))
            .match_finder(finder)
            .depth(u32::from(self.depth));
        Some(options)
    }
}

impl XzParams {
    /// The filter chain for liblzma.
    fn chain(&self) -> Result<Filters, Error> {
        let unknown = || Error::Malformed {
            why: "parameters that LZMA2 does not have",
        };
        let options = self.lzma.options().ok_or_else(unknown)?;
        let mut filters = Filters::new();
        for branch in self.filters.iter().take(MAX_FILTERS) {
            match branch {
                Branch::X86 => filters.x86(),
                Branch::Arm => filters.arm(),
                Branch::ArmThumb => filters.arm_thumb(),
                Branch::Arm64 => filters.arm64(),
                Branch::RiscV => filters.riscv(),
            };
        }
        filters.lzma2(&options);
        Ok(filters)
    }

    fn threaded(&self, block: u64, threads: u32) -> Result<MtStreamBuilder, Error> {
        let mut builder = MtStreamBuilder::new();
        builder
            .threads(threads.clamp(1, 64))
            .block_size(block)
            .filters(self.chain()?)
            .check(self.liblzma_check());
        Ok(builder)
    }

    fn liblzma_check(&self) -> liblzma::stream::Check {
        match self.check {
            Check::None => liblzma::stream::Check::None,
            Check::Crc32 => liblzma::stream::Check::Crc32,
            Check::Crc64 => liblzma::stream::Check::Crc64,
            Check::Sha256 => liblzma::stream::Check::Sha256,
        }
    }

    /// Upper bound of the memory in bytes: liblzma's own estimate.
    pub(crate) fn memory(&self, threads: u32) -> u64 {
        // The threaded encoder's estimate with the smallest block is the plain encoder's and a few KiB.
        let (block, threads) = match self.layout {
            Layout::Threaded(block) => (block.max(1), threads),
            Layout::Whole | Layout::Cut(_) => (1 << 16, 1),
        };
        self.threaded(block, threads)
            .map_or(u64::MAX, |builder| builder.memusage())
    }
}
