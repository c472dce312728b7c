//! Names out of images, made fit for people's eyes.

/// A path or text of an image as a terminal may show it: what is not UTF-8 and control
/// characters, with which a name could do things to a terminal, stand there as `\xNN`.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_direction(character) {
                let mut buffer = [0; 4];
                escape(&mut text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// Marks that turn the direction of writing around, and so hide what a name is.
fn is_direction(character: char) -> bool {
    matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        for (name, expected) in [
            (&b"plain <b>name</b> \xc3\xa9"[..], "plain <b>name</b> é"),
            (b"a\x1b[2Jb\n", "a\\x1b[2Jb\\x0a"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("txt.\u{202e}exe".as_bytes(), "txt.\\xe2\\x80\\xaeexe"),
        ] {
            assert_eq!(shown(name), expected);
        }
    }
}
