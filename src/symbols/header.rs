//! The ELF header: what kind of file it is, and where its tables are. Knows nothing of those.
//!
//! Invariant: only 64-bit little-endian x86-64 programs and libraries pass; the rest gets one line.

use std::ops::Range;

use anyhow::{Context, bail};

use super::bytes::{u16_at, u32_at, u64_at};
use super::elf::Kind;

pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) entry: u64,
    pub(super) phoff: u64,
    pub(super) phentsize: u16,
    pub(super) phnum: u64,
    pub(super) shoff: u64,
    pub(super) shentsize: u16,
    pub(super) shnum: u16,
    pub(super) shstrndx: u16,
}

impl Header {
    pub(super) fn parse(data: &[u8], name: &str) -> anyhow::Result<Header> {
        if !data.starts_with(b"\x7fELF") {
            if data.starts_with(b"#!") {
                bail!("{name}: a script, not an ELF file; name its interpreter instead");
            }
            bail!("{name}: not an ELF file; name a program or a shared library");
        }
        match (data.get(4), data.get(5), u16_at(data, 18)) {
            (Some(1), _, _) => bail!("{name}: a 32-bit file; only 64-bit x86 is supported"),
            (Some(2), Some(1), Some(62)) => {}
            (_, _, None) => bail!("{name}: truncated: it ends inside its ELF header"),
            (_, _, Some(machine)) => {
                bail!(
                    "{name}: not for x86-64 (ELF machine {machine}); only 64-bit x86 is supported"
                )
            }
        }
        let kind = match u16_at(data, 16) {
            Some(2) => Kind::Exec,
            Some(3) => Kind::Dyn,
            Some(1) => bail!("{name}: an object file; link it to a program or library first"),
            Some(4) => bail!("{name}: a core dump; name the program that made it"),
            _ => bail!("{name}: neither a program nor a shared library"),
        };
        let half = |at| u16_at(data, at).context("ends early");
        let word = |at| u64_at(data, at).context("ends early");
        let rest = || -> anyhow::Result<Header> {
            let shoff = word(40)?;
            let mut phnum = u64::from(half(56)?);
            if phnum == 0xffff {
                // PN_XNUM: the real count is `sh_info` of section 0.
                let at = usize::try_from(shoff)?.saturating_add(44);
                phnum = u32_at(data, at).map_or(phnum, u64::from);
            }
            Ok(Header {
                kind,
                entry: word(24)?,
                phoff: word(32)?,
                phentsize: half(54)?.max(56),
                phnum,
                shoff,
                shentsize: half(58)?.max(64),
                shnum: half(60)?,
                shstrndx: half(62)?,
            })
        };
        rest().map_err(|_| anyhow::anyhow!("{name}: truncated: it ends inside its ELF header"))
    }
}

/// `offset..offset+size` when it lies inside a file of `len` bytes.
pub(super) fn file_range(offset: u64, size: u64, len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= len).then_some(start..end)
}
