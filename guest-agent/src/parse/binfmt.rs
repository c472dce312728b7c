//! Registration lines of `binfmt_misc`.
//!
//! Purpose: build the one string that the kernel takes, refusing rules that would say
//! something else than they mean.

use crate::protocol::BinfmtRule;

/// The kernel refuses longer registrations.
const MAX_LINE: usize = 1920;

/// Why a rule cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("binfmt rule {name:?} {problem}")]
pub struct RuleError {
    name: String,
    problem: &'static str,
}

/// The line that registers `rule` with its interpreter below `prefix`.
pub fn registration(rule: &BinfmtRule, prefix: &str) -> Result<Vec<u8>, RuleError> {
    let wrong = |problem| {
        Err(RuleError {
            name: rule.name.clone(),
            problem,
        })
    };
    let word =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    if !word(&rule.name) || rule.name.contains('/') || rule.name.starts_with('.') {
        return wrong("has a name that is no plain file name");
    }
    if matches!(rule.name.as_str(), "register" | "status") {
        return wrong("has a name that binfmt_misc keeps for itself");
    }
    if !word(&rule.interpreter) || !rule.interpreter.starts_with('/') {
        return wrong("has an interpreter that is no plain absolute path");
    }
    if rule.magic.is_empty() || rule.mask.len() != rule.magic.len() {
        return wrong("needs a magic, and a mask as long as it");
    }
    if !rule.flags.bytes().all(|b| b"FOCP".contains(&b)) {
        return wrong("has flags other than F, O, C and P");
    }
    let mut line = format!(":{}:M::", rule.name).into_bytes();
    escape(&rule.magic, &mut line);
    line.push(b':');
    escape(&rule.mask, &mut line);
    line.extend_from_slice(format!(":{prefix}{}:{}", rule.interpreter, rule.flags).as_bytes());
    if line.len() > MAX_LINE {
        return wrong("is longer than the kernel takes");
    }
    Ok(line)
}

fn escape(bytes: &[u8], line: &mut Vec<u8>) {
    for byte in bytes {
        line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule() -> BinfmtRule {
        BinfmtRule {
            name: "qemu-aarch64".to_owned(),
            magic: vec![0x7f, b'E', 0],
            mask: vec![0xff, 0xff, 0xfe],
            interpreter: "/bin/qemu-aarch64".to_owned(),
            flags: "FOC".to_owned(),
        }
    }

    #[test]
    fn a_rule_becomes_the_kernels_line() {
        let line = String::from_utf8(registration(&rule(), "/emulators").unwrap()).unwrap();
        let expected =
            r":qemu-aarch64:M::\x7f\x45\x00:\xff\xff\xfe:/emulators/bin/qemu-aarch64:FOC";
        assert_eq!(line, expected);
    }

    #[test]
    fn rules_that_mean_something_else_are_refused() {
        let broken: [fn(&mut BinfmtRule); 9] = [
            |r| r.name.clear(),
            |r| r.name = "a:b".to_owned(),
            |r| r.name = "../x".to_owned(),
            |r| r.name = "status".to_owned(),
            |r| r.interpreter = "/a:b".to_owned(),
            |r| r.interpreter = "bin/x".to_owned(),
            |r| r.mask.push(0),
            |r| r.flags = "FX".to_owned(),
            |r| (r.magic, r.mask) = (vec![1; 300], vec![1; 300]),
        ];
        for change in broken {
            let mut rule = rule();
            change(&mut rule);
            assert!(registration(&rule, "/e").is_err(), "{rule:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_never_leak_into_each_other(
            name in ".{0,12}", interpreter in ".{0,20}", flags in ".{0,4}",
            magic in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let rule = BinfmtRule { mask: magic.clone(), name, magic, interpreter, flags };
            if let Ok(line) = registration(&rule, "/e") {
                prop_assert_eq!(line.iter().filter(|b| **b == b':').count(), 7);
                prop_assert!(line.iter().all(u8::is_ascii_graphic));
            }
        }
    }
}
