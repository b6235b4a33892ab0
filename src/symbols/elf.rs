//! One ELF file: its header, segments, sections, dynamic entries and notes. Knows no symbols.
//!
//! Invariant: every [`Section`] and [`Segment`] kept has its file range inside the file, so that
//! slicing by it cannot fail; what does not fit is dropped and noted in [`Image::broken`].
//! Layouts and constants: the System V gABI, chapters 4 and 5, and its x86-64 supplement.

use std::ops::Range;
use std::path::Path;

use anyhow::bail;

use super::bytes::{string_at, u32_at, u64_at};
use super::header::{Header, file_range};
use super::read::{Stamp, read_file};
use crate::base::LinkAddr;

/// How many notes on broken parts are kept.
pub(super) const BROKEN_CAP: usize = 100;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const SHT_NOTE: u32 = 7;
const SHT_NOBITS: u32 = 8;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const NT_GNU_BUILD_ID: u32 = 3;

/// Where the program's own addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ET_EXEC`: link addresses are run-time addresses.
    Exec,
    /// `ET_DYN`: a library or a position-independent program, loaded with a bias.
    Dyn,
}

/// A loadable segment (`PT_LOAD`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub vaddr: LinkAddr,
    /// Bytes in memory.
    pub memsz: u64,
    /// Where its bytes begin in the file.
    pub file_offset: u64,
    /// How many of its bytes are in the file.
    pub filesz: u64,
    /// `PF_R`.
    pub readable: bool,
    /// `PF_W`.
    pub writable: bool,
    /// `PF_X`.
    pub executable: bool,
}

/// A section header with its name.
#[derive(Clone, Debug)]
pub struct Section {
    /// Name, lossy.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_addr`.
    pub at: LinkAddr,
    /// `sh_size`: bytes in memory.
    pub size: u64,
    /// Its bytes in the file; empty for `SHT_NOBITS`.
    pub file: Range<usize>,
    /// `sh_link`: index into the file's table, see [`Image::linked`].
    pub link: u32,
    /// Index in the file's table.
    pub index: u32,
}

impl Section {
    /// `SHF_ALLOC`: it is in memory.
    pub fn is_alloc(&self) -> bool {
        self.flags & 2 != 0
    }
    /// `SHF_EXECINSTR`.
    pub fn is_code(&self) -> bool {
        self.flags & 4 != 0 && self.is_alloc()
    }
    /// `SHF_COMPRESSED`.
    pub fn is_compressed(&self) -> bool {
        self.flags & 0x800 != 0
    }
}

/// The bytes of a file, read (never mapped: a file may shrink), and their outline.
pub struct Image {
    data: Vec<u8>,
    stamp: Stamp,
    name: String,
    kind: Kind,
    entry: LinkAddr,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    pub(super) dynamic: Vec<(u64, u64)>,
    interpreter: Option<String>,
    soname: Option<String>,
    build_id: Option<Range<usize>>,
    eh_frame_hdr: Option<(LinkAddr, u64)>,
    broken: Vec<String>,
}

impl Image {
    /// Reads a program or library. Fails with one line that names the path: no file, not a regular
    /// file, not ELF, 32-bit, another machine, truncated, too large.
    pub fn read(path: &Path) -> anyhow::Result<Image> {
        let (data, stamp) = read_file(path)?;
        let image = Image::parse(data, &path.display().to_string(), true)?;
        Ok(Image { stamp, ..image })
    }

    /// Reads a separate debug file, whose segments need not have their bytes.
    pub fn read_debug(path: &Path) -> anyhow::Result<Image> {
        let (data, _) = read_file(path)?;
        Image::parse(data, &path.display().to_string(), false)
    }

    /// Which file it was read from; all zero for bytes.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The same over bytes; `name` stands for the path in messages.
    pub fn from_bytes(data: Vec<u8>, name: &str) -> anyhow::Result<Image> {
        Image::parse(data, name, true)
    }

    /// A separate debug file over bytes.
    pub fn debug_from_bytes(data: Vec<u8>, name: &str) -> anyhow::Result<Image> {
        Image::parse(data, name, false)
    }

    fn parse(data: Vec<u8>, name: &str, whole: bool) -> anyhow::Result<Image> {
        let header = Header::parse(&data, name)?;
        let mut image = Image {
            name: name.to_owned(),
            kind: header.kind,
            entry: LinkAddr(header.entry),
            segments: Vec::new(),
            sections: Vec::new(),
            dynamic: Vec::new(),
            interpreter: None,
            soname: None,
            build_id: None,
            eh_frame_hdr: None,
            broken: Vec::new(),
            stamp: Stamp::default(),
            data,
        };
        let dynamic = image.read_segments(&header, whole)?;
        image.read_sections(&header);
        image.find_build_id();
        if let Some(range) = dynamic {
            image.read_dynamic(range);
        }
        image.segments.sort_by_key(|s| s.vaddr);
        Ok(image)
    }

    fn read_segments(
        &mut self,
        header: &Header,
        whole: bool,
    ) -> anyhow::Result<Option<Range<usize>>> {
        let (mut dynamic, mut notes) = (None, Vec::new());
        for index in 0..header.phnum {
            let Some(ph) = self.record(header.phoff, header.phentsize, index, 56) else {
                if whole {
                    bail!("{}: truncated: its program headers are missing", self.name);
                }
                break;
            };
            let word = |at| u64_at(ph, at).unwrap_or(0);
            let (kind, flags) = (u32_at(ph, 0).unwrap_or(0), u32_at(ph, 4).unwrap_or(0));
            let (offset, vaddr, filesz, memsz) = (word(8), word(16), word(32), word(40));
            let range = file_range(offset, filesz, self.data.len());
            match (kind, range) {
                (PT_LOAD, range) => {
                    if range.is_none() && whole {
                        bail!(
                            "{}: truncated: a segment ends at byte {} of {}; copy or build the file again",
                            self.name,
                            offset.saturating_add(filesz),
                            self.data.len()
                        );
                    }
                    if vaddr.checked_add(memsz.max(filesz)).is_none() {
                        bail!("{}: corrupt: a segment wraps the address space", self.name);
                    }
                    self.segments.push(Segment {
                        vaddr: LinkAddr(vaddr),
                        memsz,
                        file_offset: offset,
                        filesz: if range.is_some() {
                            filesz.min(memsz)
                        } else {
                            0
                        },
                        readable: flags & 4 != 0,
                        writable: flags & 2 != 0,
                        executable: flags & 1 != 0,
                    });
                }
                (PT_GNU_EH_FRAME, _) => self.eh_frame_hdr = Some((LinkAddr(vaddr), filesz)),
                (PT_DYNAMIC, Some(range)) => dynamic = Some(range),
                (PT_NOTE, Some(range)) => notes.push(range),
                (PT_INTERP, Some(range)) => {
                    let text = self.data.get(range).unwrap_or_default();
                    let text = text.split(|&b| b == 0).next().unwrap_or_default();
                    self.interpreter = Some(String::from_utf8_lossy(text).into_owned());
                }
                _ => {}
            }
        }
        self.build_id = notes.into_iter().find_map(|n| self.build_id_in(n));
        Ok(dynamic)
    }

    fn read_sections(&mut self, header: &Header) {
        if header.shoff == 0 {
            return;
        }
        let Some(first) = self.record(header.shoff, header.shentsize, 0, 64) else {
            self.note("the section headers are outside the file".to_owned());
            return;
        };
        // Counts that do not fit the header stand in section 0 (gABI, "Extended section header").
        let count = match header.shnum {
            0 => u64_at(first, 32).unwrap_or(0),
            n => u64::from(n),
        };
        let strings_index = match header.shstrndx {
            0xffff => u32_at(first, 40).unwrap_or(0),
            n => u32::from(n),
        };
        let strings = self
            .record(header.shoff, header.shentsize, u64::from(strings_index), 64)
            .and_then(|sh| file_range(u64_at(sh, 24)?, u64_at(sh, 32)?, self.data.len()))
            .unwrap_or(0..0);
        for index in 0..count {
            let Some(sh) = self.record(header.shoff, header.shentsize, index, 64) else {
                self.note("the section headers end early".to_owned());
                break;
            };
            let word = |at| u64_at(sh, at).unwrap_or(0);
            let half = |at| u32_at(sh, at).unwrap_or(0);
            let kind = half(4);
            let name = self
                .data
                .get(strings.clone())
                .and_then(|s| string_at(s, half(0) as usize))
                .map(|n| String::from_utf8_lossy(n).into_owned())
                .unwrap_or_default();
            let file = if kind == SHT_NOBITS || kind == 0 {
                Some(0..0)
            } else {
                file_range(word(24), word(32), self.data.len())
            };
            let section = Section {
                name,
                kind,
                flags: word(8),
                at: LinkAddr(word(16)),
                size: word(32),
                file: file.clone().unwrap_or(0..0),
                link: half(40),
                index: u32::try_from(index).unwrap_or(u32::MAX),
            };
            if file.is_none() || section.at.0.checked_add(section.size).is_none() {
                self.note(format!("section {index} lies outside the file"));
            } else {
                self.sections.push(section);
            }
        }
    }

    fn read_dynamic(&mut self, range: Range<usize>) {
        let bytes = self.data.get(range).unwrap_or_default();
        self.dynamic = bytes
            .chunks_exact(16)
            .filter_map(|pair| Some((u64_at(pair, 0)?, u64_at(pair, 8)?)))
            .take_while(|&(tag, _)| tag != 0)
            .collect();
        let (Some(strings), Some(name)) = (self.dynamic(DT_STRTAB), self.dynamic(DT_SONAME)) else {
            return;
        };
        self.soname = strings
            .checked_add(name)
            .and_then(|at| string_at(self.bytes_from(LinkAddr(at))?, 0))
            .map(|n| String::from_utf8_lossy(n).into_owned());
    }

    fn find_build_id(&mut self) {
        if self.build_id.is_none() {
            let notes = self.sections.iter().filter(|s| s.kind == SHT_NOTE);
            self.build_id = notes
                .map(|s| s.file.clone())
                .find_map(|n| self.build_id_in(n));
        }
    }

    fn build_id_in(&self, notes: Range<usize>) -> Option<Range<usize>> {
        let mut at = notes.start;
        while at < notes.end {
            let (namesz, descsz) = (u32_at(&self.data, at)?, u32_at(&self.data, at + 4)?);
            let name = at.checked_add(12)?;
            let desc = name.checked_add((namesz as usize).checked_next_multiple_of(4)?)?;
            let end = desc.checked_add(descsz as usize)?;
            if end > notes.end {
                return None;
            }
            let is_gnu = self.data.get(name..name.checked_add(4)?)? == b"GNU\0" && namesz == 4;
            // Ids are 8 to 20 bytes; a longer one is not an id.
            if is_gnu && u32_at(&self.data, at + 8)? == NT_GNU_BUILD_ID && descsz <= 64 {
                return (descsz >= 2).then_some(desc..end);
            }
            at = desc.checked_add((descsz as usize).checked_next_multiple_of(4)?)?;
        }
        None
    }

    /// The `index`th record of a table, at least `need` bytes of it.
    fn record(&self, table: u64, size: u16, index: u64, need: u64) -> Option<&[u8]> {
        let at = index.checked_mul(u64::from(size))?.checked_add(table)?;
        self.data.get(file_range(at, need, self.data.len())?)
    }

    fn note(&mut self, what: String) {
        if self.broken.len() < BROKEN_CAP {
            self.broken.push(what);
        }
    }

    /// What messages call this file: its path.
    pub fn file_name(&self) -> &str {
        &self.name
    }
    /// All bytes of the file.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
    /// `NT_GNU_BUILD_ID`.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.data.get(self.build_id.clone()?)
    }
    /// The loadable segments, by address.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// The sections whose bytes are in the file; none when their headers were stripped.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }
    /// The first section of that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }
    /// The section that `section`'s `sh_link` names.
    pub fn linked(&self, section: &Section) -> Option<&Section> {
        self.sections.iter().find(|s| s.index == section.link)
    }
    /// The file bytes of a section.
    pub fn section_bytes(&self, section: &Section) -> &[u8] {
        self.data.get(section.file.clone()).unwrap_or_default()
    }
    /// `e_entry`.
    pub fn entry(&self) -> LinkAddr {
        self.entry
    }
    /// Whether link addresses are final.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// `PT_INTERP`: the loader; none in libraries and static programs.
    pub fn interpreter(&self) -> Option<&str> {
        self.interpreter.as_deref()
    }
    /// `DT_SONAME`.
    pub fn soname(&self) -> Option<&str> {
        self.soname.as_deref()
    }
    /// The value of a dynamic entry.
    pub fn dynamic(&self, tag: u64) -> Option<u64> {
        self.dynamic
            .iter()
            .find(|&&(t, _)| t == tag)
            .map(|&(_, v)| v)
    }
    /// `PT_GNU_EH_FRAME`: address and size.
    pub fn eh_frame_hdr(&self) -> Option<(LinkAddr, u64)> {
        self.eh_frame_hdr
    }
    /// What was broken in the outline and left out.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// The `len` file bytes behind a link address; `None` when they are not all in one segment's
    /// file part.
    pub fn bytes_at(&self, at: LinkAddr, len: usize) -> Option<&[u8]> {
        self.bytes_from(at)?.get(..len)
    }

    /// The file bytes from a link address to the end of its segment's file part.
    pub fn bytes_from(&self, at: LinkAddr) -> Option<&[u8]> {
        self.data.get(self.file_range_from(at)?)
    }

    /// Where in the file the bytes from `at` to the end of its segment are.
    pub fn file_range_from(&self, at: LinkAddr) -> Option<Range<usize>> {
        self.segments.iter().find_map(|s| {
            let inside = at.0.checked_sub(s.vaddr.0)?;
            let left = s.filesz.checked_sub(inside).filter(|&left| left > 0)?;
            file_range(s.file_offset.checked_add(inside)?, left, self.data.len())
        })
    }

    /// Whether the address lies in an executable segment.
    pub fn is_executable(&self, at: LinkAddr) -> bool {
        self.segments.iter().any(|s| {
            s.executable
                && at
                    .0
                    .checked_sub(s.vaddr.0)
                    .is_some_and(|inside| inside < s.memsz)
        })
    }

    /// Whether the Go toolchain linked it: its stacks and return addresses follow other rules.
    pub fn is_go(&self) -> bool {
        self.sections.iter().any(|s| {
            matches!(
                s.name.as_str(),
                ".gopclntab" | ".go.buildinfo" | ".data.rel.ro.gopclntab"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cc, exists};
    use super::*;

    fn refused(data: &[u8]) -> String {
        let result = Image::from_bytes(data.to_vec(), "file");
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_no_program_is_refused_in_one_line() {
        let Some(built) = cc("int main(void) { return 0; }", &[]) else {
            return;
        };
        let whole = std::fs::read(&built.path).unwrap();
        let patched = |at: usize, byte: u8| {
            let mut data = whole.clone();
            data[at] = byte;
            data
        };
        for (data, part) in [
            (b"#!/bin/sh\n".to_vec(), "a script"),
            (b"text".to_vec(), "not an ELF file"),
            (Vec::new(), "not an ELF file"),
            (patched(4, 1), "32-bit"),
            (patched(18, 183), "not for x86-64"),
            (patched(16, 4), "core dump"),
            (whole[..40].to_vec(), "truncated"),
            (whole[..whole.len() / 8].to_vec(), "truncated"),
        ] {
            let message = refused(&data);
            assert!(
                message.starts_with("file: ") && message.contains(part),
                "{message}"
            );
            assert!(!message.contains('\n'));
        }
        let missing = Image::read(Path::new("/nonexistent/x"))
            .err()
            .map(|e| format!("{e:#}"));
        assert!(missing.unwrap().starts_with("/nonexistent/x: "));
        assert!(
            Image::read(Path::new("/"))
                .err()
                .unwrap()
                .to_string()
                .contains("a directory")
        );
    }

    #[test]
    fn a_program_tells_its_outline() {
        let flags = ["-Wl,--build-id=0x0123456789abcdef", "-no-pie"];
        let Some(built) = cc("int main(void) { return 0; }", &flags) else {
            return;
        };
        let image = built.image();
        assert_eq!(image.kind(), Kind::Exec);
        assert_eq!(
            image.build_id(),
            Some(&[1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef][..])
        );
        assert!(image.interpreter().is_some_and(|i| i.contains("ld-")));
        assert!(image.is_executable(image.entry()) && !image.is_executable(LinkAddr(0)));
        let text = image.section(".text").unwrap();
        assert_eq!(
            image.bytes_at(text.at, 16),
            image.section_bytes(text).get(..16)
        );
        assert_eq!(image.bytes_at(LinkAddr(u64::MAX), 16), None);
        assert!(!image.is_go() && image.broken().is_empty());
    }

    #[test]
    fn a_file_without_section_headers_still_has_its_exports() {
        let source = "int f(int x) { return x; } int g(int x) { return f(x) + 1; }";
        for style in ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv"] {
            let Some(built) = cc(source, &["-shared", "-fPIC", "-Wl,-soname,libx.so", style])
            else {
                return;
            };
            let mut data = std::fs::read(&built.path).unwrap();
            data[40..48].fill(0);
            data[58..64].fill(0);
            let image = Image::from_bytes(data, "x").unwrap();
            assert!(image.sections().is_empty());
            assert_eq!(image.soname(), Some("libx.so"));
            let symbols = super::super::Symbols::load(&image, None).unwrap();
            let names: Vec<_> = symbols.entries().iter().map(|e| symbols.name(e)).collect();
            assert!(
                names.contains(&"f") && names.contains(&"g"),
                "{style}: {names:?}"
            );
            let facts = super::super::code_facts(&image, &symbols).unwrap();
            assert!(!facts.ranges.is_empty() && facts.functions.len() >= 2);
        }
    }

    #[test]
    fn a_go_program_is_known() {
        if !exists("objcopy") {
            eprintln!("ignored: no objcopy on this machine");
            return;
        }
        let Some(built) = cc("int main(void) { return 0; }", &[]) else {
            return;
        };
        assert!(built.run("objcopy", &["--add-section", ".gopclntab=/dev/null"]));
        assert!(built.image().is_go());
    }
}
