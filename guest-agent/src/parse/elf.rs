//! What the first bytes of an ELF file say about where it runs.
//!
//! Purpose: name the architecture and the loader of a program in OCI's terms, so that an
//! image with a wrong platform label, or without its loader, is explained.

use goblin::container::{Container, Ctx};
use goblin::elf::Elf;
use goblin::elf::header::{self, EI_CLASS, EI_DATA, ELFCLASS32, ELFCLASS64, ELFDATA2LSB, Header};
use goblin::elf::program_header::{PT_INTERP, ProgramHeader};

/// How much of a file is enough: the header, the program headers and the loader's path lie
/// in it for every linker that is in use.
pub const READ_LEN: usize = 4096;

/// More program headers than a real program has; what comes after is not looked at.
const MAX_PROGRAM_HEADERS: usize = 64;

/// Facts from an ELF file's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `architecture` in OCI's names (`amd64`, `arm64`, …), or `ELF machine N`.
    pub architecture: String,
    /// The loader that a dynamically linked program asks for.
    pub loader: Option<String>,
}

/// Reads the facts; `None` when `start` is no ELF file.
pub fn inspect(start: &[u8]) -> Option<Facts> {
    let start = start.get(..READ_LEN).unwrap_or(start);
    let header = Elf::parse_header(start).ok()?;
    Some(Facts {
        architecture: architecture(&header),
        loader: loader(start, &header),
    })
}

fn architecture(header: &Header) -> String {
    let wide = header.e_ident.get(EI_CLASS) == Some(&ELFCLASS64);
    let little = header.e_ident.get(EI_DATA) == Some(&ELFDATA2LSB);
    let name = match (header.e_machine, wide, little) {
        // x32 programs are EM_X86_64 in 32-bit files; no image is built of them.
        (header::EM_X86_64, true, true) => "amd64",
        (header::EM_386, false, true) => "386",
        (header::EM_AARCH64, true, true) => "arm64",
        (header::EM_ARM, false, true) => "arm",
        (header::EM_RISCV, true, true) => "riscv64",
        (header::EM_PPC64, true, true) => "ppc64le",
        (header::EM_PPC64, true, false) => "ppc64",
        (header::EM_S390, true, false) => "s390x",
        (header::EM_MIPS, true, true) => "mips64le",
        (header::EM_MIPS, true, false) => "mips64",
        (header::EM_MIPS, false, true) => "mipsle",
        (header::EM_MIPS, false, false) => "mips",
        (header::EM_LOONGARCH, true, true) => "loong64",
        (machine, ..) => return format!("ELF machine {machine}"),
    };
    name.to_owned()
}

fn loader(start: &[u8], header: &Header) -> Option<String> {
    let container = match header.e_ident.get(EI_CLASS) {
        Some(&ELFCLASS32) => Container::Little,
        _ => Container::Big,
    };
    let context = Ctx::new(container, header.endianness().ok()?);
    let count = usize::from(header.e_phnum).min(MAX_PROGRAM_HEADERS);
    let offset = usize::try_from(header.e_phoff).ok()?;
    let size = ProgramHeader::size(context);
    // goblin trusts the count; only headers that lie in what was read are asked for.
    let available = start.len().checked_sub(offset)? / size;
    let headers = ProgramHeader::parse(start, offset, count.min(available), context).ok()?;
    let interp = headers.iter().find(|h| h.p_type == PT_INTERP)?;
    let from = usize::try_from(interp.p_offset).ok()?;
    let to = from.checked_add(usize::try_from(interp.p_filesz).ok()?)?;
    let path = start.get(from..to)?;
    let path = path.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(path).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A 64-bit little-endian header with one PT_INTERP program header.
    fn sample(machine: u16, loader: &str) -> Vec<u8> {
        let mut file = vec![0u8; 64 + 56];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..18].copy_from_slice(&3u16.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&1u16.to_le_bytes());
        file[64..68].copy_from_slice(&3u32.to_le_bytes());
        file[72..80].copy_from_slice(&120u64.to_le_bytes());
        file[96..104].copy_from_slice(&(loader.len() as u64 + 1).to_le_bytes());
        file.extend_from_slice(loader.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn machine_and_loader_are_named() {
        let facts = inspect(&sample(183, "/lib/ld-linux-aarch64.so.1")).unwrap();
        assert_eq!(facts.architecture, "arm64");
        assert_eq!(facts.loader.as_deref(), Some("/lib/ld-linux-aarch64.so.1"));
        assert_eq!(inspect(&sample(62, "/l")).unwrap().architecture, "amd64");
        assert_eq!(
            inspect(&sample(9999, "/l")).unwrap().architecture,
            "ELF machine 9999"
        );
    }

    #[test]
    fn this_very_program_is_recognised() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = inspect(&program).unwrap();
        let expected = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        assert_eq!(facts.architecture, expected);
        assert!(facts.loader.unwrap().contains("ld-linux"));
    }

    #[test]
    fn what_is_no_elf_file_has_no_facts() {
        for start in [
            &b""[..],
            b"#!/bin/sh\n",
            b"\x7fELF",
            b"\x7fELF\x07\x01\x01 and more text than a header",
        ] {
            assert_eq!(inspect(start), None, "{start:?}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_header_never_panics(
            at in proptest::collection::vec((0usize..120, any::<u8>()), 0..12), len in 0usize..160,
        ) {
            let mut file = sample(62, "/lib64/ld-linux-x86-64.so.2");
            for (index, byte) in at {
                file[index] = byte;
            }
            file.truncate(len);
            let _ = inspect(&file);
        }
    }
}
