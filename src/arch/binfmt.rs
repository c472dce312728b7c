//! The table of foreign architectures that qemu-user can run inside a guest.
//!
//! Adding an architecture is adding a row: the magic and mask are matched by the guest's
//! `binfmt_misc` against the first 20 bytes of an ELF file (class, byte order, type and
//! `e_machine`, ELF specification chapter 1).

use guest_agent::protocol::BinfmtRule;

/// One foreign architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// `GOARCH`, as image platforms name it.
    pub architecture: &'static str,
    /// File name of the emulator, `qemu-aarch64`.
    pub emulator: &'static str,
    class: u8,
    order: u8,
    machine: u16,
    mask_machine: u16,
}

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE: u8 = 1;
const BIG: u8 = 2;

/// Every architecture with an emulator, the host's own among them.
pub const TABLE: [Foreign; 7] = [
    row("amd64", "qemu-x86_64", CLASS_64, LITTLE, 62),
    row("arm64", "qemu-aarch64", CLASS_64, LITTLE, 183),
    row("arm", "qemu-arm", CLASS_32, LITTLE, 40),
    // 3 is EM_386 and 6 the historical EM_486.
    Foreign {
        mask_machine: 0xfffa,
        ..row("386", "qemu-i386", CLASS_32, LITTLE, 2)
    },
    row("riscv64", "qemu-riscv64", CLASS_64, LITTLE, 243),
    row("ppc64le", "qemu-ppc64le", CLASS_64, LITTLE, 21),
    row("s390x", "qemu-s390x", CLASS_64, BIG, 22),
];

const fn row(
    architecture: &'static str,
    emulator: &'static str,
    class: u8,
    order: u8,
    machine: u16,
) -> Foreign {
    Foreign {
        architecture,
        emulator,
        class,
        order,
        machine,
        mask_machine: 0xffff,
    }
}

impl Foreign {
    /// The rule for the guest: flags `F` (the emulator is opened now, before the container's
    /// root is in place), `O` and `C` (file descriptor and credentials of the program) and
    /// `P` (the program keeps its `argv[0]`).
    pub fn rule(&self) -> BinfmtRule {
        let number = |value: u16| {
            if self.order == LITTLE {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let mut magic = vec![0x7f, b'E', b'L', b'F', self.class, self.order, 1];
        magic.resize(16, 0);
        magic.extend(number(2));
        magic.extend(number(self.machine));
        let mut mask = vec![0xff; 7];
        // The OS/ABI byte may be anything; bytes 8 to 15 are padding that some tools use.
        mask.push(0);
        mask.resize(16, 0);
        // Executables (2) and position independent ones (3).
        mask.extend(number(0xfffe));
        mask.extend(number(self.mask_machine));
        BinfmtRule {
            name: self.emulator.to_owned(),
            magic,
            mask,
            interpreter: format!("/bin/{}", self.emulator),
            flags: "FPOC".to_owned(),
        }
    }
}

/// Rules for every architecture but those that `native` runs itself.
pub fn rules(native: &[&str]) -> Vec<BinfmtRule> {
    TABLE
        .iter()
        .filter(|row| !native.contains(&row.architecture))
        .map(Foreign::rule)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(rule: &BinfmtRule, header: &[u8]) -> bool {
        rule.magic
            .iter()
            .zip(&rule.mask)
            .zip(header)
            .all(|((m, k), h)| (m & k) == (h & k))
    }

    #[test]
    fn each_rule_matches_its_own_headers_only() {
        let header = |row: &Foreign, kind: u16, abi: u8| {
            let mut bytes = vec![0x7f, b'E', b'L', b'F', row.class, row.order, 1, abi];
            bytes.resize(16, 0);
            let machine = if row.architecture == "386" {
                3
            } else {
                row.machine
            };
            for number in [kind, machine] {
                let both = [number.to_le_bytes(), number.to_be_bytes()];
                bytes.extend(both[usize::from(row.order == BIG)]);
            }
            bytes
        };
        for row in &TABLE {
            let rule = row.rule();
            assert_eq!((rule.magic.len(), rule.mask.len()), (20, 20));
            for other in &TABLE {
                let own = row.architecture == other.architecture;
                assert_eq!(
                    matches(&rule, &header(other, 2, 0)),
                    own,
                    "{row:?} {other:?}"
                );
                assert_eq!(
                    matches(&rule, &header(other, 3, 3)),
                    own,
                    "{row:?} {other:?}"
                );
                assert!(
                    !matches(&rule, &header(other, 1, 0)),
                    "an object file is no program"
                );
            }
        }
        assert_eq!(rules(&["amd64", "386"]).len(), TABLE.len() - 2);
    }
}
