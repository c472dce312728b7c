//! `--chmod`: an octal number, or changes as `chmod(1)` takes them.

use super::CopyError;

/// What becomes of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode(Vec<Change>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// Bits that the change is about: those of user, group, others.
    who: u32,
    operator: char,
    bits: u32,
    /// `X`: execution where it makes sense.
    execute_some: bool,
}

impl Mode {
    /// Reads `0755` or `u+x,go-w`.
    pub fn parse(text: &str) -> Result<Self, CopyError> {
        let wrong = || CopyError::Mode(text.to_owned());
        if !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'7')) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
            if bits > 0o7777 {
                return Err(wrong());
            }
            return Ok(Self(vec![Change {
                who: 0o7777,
                operator: '=',
                bits,
                execute_some: false,
            }]));
        }
        let changes = text.split(',').map(|part| change(part).ok_or_else(wrong));
        Ok(Self(changes.collect::<Result<_, _>>()?))
    }

    /// The bits after the changes.
    pub fn apply(&self, mut mode: u32, is_dir: bool) -> u32 {
        for change in &self.0 {
            let mut bits = change.bits;
            if change.execute_some && (is_dir || mode & 0o111 != 0) {
                bits |= 0o111 & change.who;
            }
            mode = match change.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !change.who | bits,
            };
        }
        mode
    }
}

fn change(text: &str) -> Option<Change> {
    let at = text.find(['+', '-', '='])?;
    let (whose, rest) = text.split_at(at);
    let operator = rest.chars().next()?;
    let mut who = 0;
    for c in whose.chars() {
        who |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if whose.is_empty() {
        who = 0o7777;
    }
    let (mut bits, mut execute_some) = (0, false);
    for c in rest.get(1..)?.chars() {
        bits |= match c {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                execute_some = true;
                0
            }
            _ => return None,
        };
    }
    Some(Change {
        who,
        operator,
        bits: bits & who,
        execute_some,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_numbers_or_changes() {
        let apply = |text: &str, mode, dir| Mode::parse(text).map(|m| m.apply(mode, dir)).ok();
        assert_eq!(apply("0755", 0o600, false), Some(0o755));
        assert_eq!(apply("4711", 0o600, false), Some(0o4711));
        assert_eq!(apply("u+x,go-w", 0o666, false), Some(0o744));
        assert_eq!(apply("a=rX", 0o640, false), Some(0o444));
        assert_eq!(apply("a=rX", 0o640, true), Some(0o555));
        assert_eq!(apply("+x", 0o600, false), Some(0o711));
        assert_eq!(apply("u+s", 0o755, false), Some(0o4755));
        for wrong in ["", "8", "77777", "u", "u+q", "z+x", "u+x,", "-"] {
            let known = wrong == "-";
            assert_eq!(Mode::parse(wrong).is_ok(), known, "{wrong}");
        }
    }
}
