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
    /// File name of another one, which is taken where it lies beside that: a faster one that
    /// hull does not come with.
    pub better: Option<&'static str>,
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
    Foreign {
        better: Some("box64"),
        ..row("amd64", "qemu-x86_64", CLASS_64, LITTLE, 62)
    },
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
        better: None,
        class,
        order,
        machine,
        mask_machine: 0xffff,
    }
}

impl Foreign {
    /// The emulator that is taken, of those that are there.
    pub fn chosen(&self, is_there: impl Fn(&str) -> bool) -> &'static str {
        self.better
            .filter(|better| is_there(better))
            .unwrap_or(self.emulator)
    }

    /// The rule for the guest: flags `F` (the emulator is opened now, before the container's
    /// root is in place), `O` and `C` (file descriptor and credentials of the program) and
    /// `P` (the program keeps its `argv[0]`, which QEMU's emulators know how to do).
    pub fn rule(&self, emulator: &str) -> BinfmtRule {
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
            name: emulator.to_owned(),
            magic,
            mask,
            interpreter: format!("/bin/{emulator}"),
            flags: if emulator == self.emulator {
                "FPOC"
            } else {
                "FOC"
            }
            .to_owned(),
        }
    }
}

/// Rules for every architecture but those that `native` runs itself, with the emulators that are
/// there.
pub fn rules(native: &[&str], is_there: impl Fn(&str) -> bool) -> Vec<BinfmtRule> {
    TABLE
        .iter()
        .filter(|row| !native.contains(&row.architecture))
        .map(|row| row.rule(row.chosen(&is_there)))
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
            let rule = row.rule(row.emulator);
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
        assert_eq!(rules(&["amd64", "386"], |_| false).len(), TABLE.len() - 2);
    }

    #[test]
    fn a_better_emulator_is_taken_where_it_is() {
        let amd64 = |is_there: fn(&str) -> bool| {
            let rules = rules(&["arm64"], is_there);
            let rule = rules.iter().find(|rule| rule.magic[18] == 62).unwrap();
            (rule.interpreter.clone(), rule.flags.clone())
        };
        let of = |text: (&str, &str)| (text.0.to_owned(), text.1.to_owned());
        assert_eq!(amd64(|_| false), of(("/bin/qemu-x86_64", "FPOC")));
        assert_eq!(amd64(|name| name == "box64"), of(("/bin/box64", "FOC")));
    }
}
