//! Where options end: docker reads none behind the image or container of a command that runs a
//! program, so that `run IMAGE -la` hands `-la` to the image's entrypoint.

use std::ffi::OsString;

use clap::Command;

/// The arguments with `--` behind the first operand of a command whose options end there;
/// `options_of` knows those commands.
pub fn end_options(
    mut arguments: Vec<OsString>,
    options_of: impl Fn(&str) -> Option<Command>,
) -> Vec<OsString> {
    if let Some(place) = first_operand(&arguments, options_of) {
        arguments.insert(place + 1, OsString::from("--"));
    }
    arguments
}

fn first_operand(
    arguments: &[OsString],
    options_of: impl Fn(&str) -> Option<Command>,
) -> Option<usize> {
    let mut place = 1;
    if arguments.get(1)?.to_str()? == "container" {
        place = 2;
    }
    let name = arguments.get(place)?.to_str()?;
    place += 1;
    // Where no option follows an operand there is nothing to tell apart.
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    let mut rest = arguments
        .iter()
        .skip(place)
        .skip_while(|word| is_option(word));
    if !rest.any(is_option) {
        return None;
    }
    let command = &options_of(name)?;
    while let Some(word) = arguments.get(place) {
        // What is no text is no option.
        let word = word.to_str().unwrap_or_default();
        let consumed = match word.strip_prefix("--") {
            Some("") => return None,
            Some(option) if option.contains('=') => 1,
            Some(option) => 1 + usize::from(long_takes_value(command, option)),
            None => match word.strip_prefix('-') {
                None | Some("") => return Some(place),
                Some(cluster) => 1 + usize::from(cluster_takes_next(command, cluster)),
            },
        };
        place += consumed;
    }
    None
}

fn long_takes_value(command: &Command, name: &str) -> bool {
    let mut arguments = command.get_arguments();
    let known = arguments.find(|argument| {
        argument.get_long() == Some(name)
            || argument
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&name))
    });
    known.is_some_and(takes_next)
}

/// Whether the last option of `-abc` takes the next word as its value.
fn cluster_takes_next(command: &Command, cluster: &str) -> bool {
    for (at, letter) in cluster.char_indices() {
        let mut arguments = command.get_arguments();
        let known = arguments.find(|argument| argument.get_short() == Some(letter));
        if known.is_some_and(takes_next) {
            // What follows in the same word is its value.
            return at + letter.len_utf8() == cluster.len();
        }
    }
    false
}

fn takes_next(argument: &clap::Arg) -> bool {
    argument.get_action().takes_values() && !argument.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    fn ended(line: &str) -> String {
        let flag = |name: &'static str, short| Arg::new(name).long(name).short(short);
        let options_of = |name: &str| {
            let run = Command::new("run")
                .arg(flag("tty", 't').action(ArgAction::SetTrue))
                .arg(flag("label", 'l').action(ArgAction::Append))
                .arg(
                    flag("sig-proxy", 's')
                        .num_args(0..=1)
                        .require_equals(true)
                        .default_missing_value("true"),
                );
            (name == "run").then_some(run)
        };
        let words = line.split(' ').map(OsString::from).collect();
        let ended = end_options(words, options_of);
        let words: Vec<_> = ended.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn options_end_at_the_image() {
        for (line, expected) in [
            ("hull run image -la", "hull run image -- -la"),
            (
                "hull run -t -l a image -la",
                "hull run -t -l a image -- -la",
            ),
            ("hull run -tl a image -l", "hull run -tl a image -- -l"),
            ("hull run -la image -l", "hull run -la image -- -l"),
            (
                "hull run --label a image -x",
                "hull run --label a image -- -x",
            ),
            (
                "hull run --label=a image -x",
                "hull run --label=a image -- -x",
            ),
            (
                "hull run --sig-proxy image -x",
                "hull run --sig-proxy image -- -x",
            ),
            (
                "hull container run image -t",
                "hull container run image -- -t",
            ),
            ("hull run -- image -t", "hull run -- image -t"),
            ("hull run --unknown", "hull run --unknown"),
            ("hull ps image -a", "hull ps image -a"),
            ("hull run -t image x", "hull run -t image x"),
            ("hull", "hull"),
        ] {
            assert_eq!(ended(line), expected);
        }
    }
}
