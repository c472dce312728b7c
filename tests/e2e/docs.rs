//! The documentation tells the truth: its commands run as shown, its promises have their tests.
//!
//! A fenced block marked `console` holds commands (`$ ` first), what they print, and
//! `# exit N` where a command does not end with 0. `…` stands for any text; a line of nothing
//! else for any lines. All blocks of a file are one shell session with an empty state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Hull, repository};

/// One command of a document and what it must do.
#[derive(Debug, Default)]
struct Example {
    line: usize,
    command: String,
    code: i32,
    output: Vec<String>,
}

/// What stands between the outputs of two commands.
const MARK: char = '\u{1}';

/// README.md and every page in docs/ and docs/class/.
fn pages() -> Vec<PathBuf> {
    let docs = repository().join("docs");
    let listed = [docs.join("class"), docs].map(|directory| fs::read_dir(directory).unwrap());
    let mut pages: Vec<PathBuf> = listed
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    pages.sort();
    pages.insert(0, repository().join("README.md"));
    pages
}

fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            found.push(Example {
                line: number + 1,
                command: command.to_owned(),
                ..Example::default()
            });
        } else if let Some(last) = found.last_mut() {
            if last.command.ends_with('\\') && last.output.is_empty() {
                last.command.push('\n');
                last.command.push_str(line);
            } else if let Some(code) = line.strip_prefix("# exit ") {
                last.code = code.trim().parse().unwrap();
            } else if !line.trim().is_empty() {
                last.output.push(line.trim_end().to_owned());
            }
        }
    }
    found
}

/// Whether `line` is `pattern`, in which `…` stands for any text.
fn matches(pattern: &str, line: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return pattern == line;
    };
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The first expected line that is not there, each looked for after the one before.
fn missing<'a>(expected: &'a [String], output: &str) -> Option<&'a String> {
    let mut lines = output.lines().map(str::trim_end);
    let wanted = expected.iter().filter(|line| line.trim() != "…");
    wanted
        .into_iter()
        .find(|pattern| !lines.any(|line| matches(pattern, line)))
}

/// Runs a page's commands in one shell and says what was not as the page has it.
fn run(page: &Path, examples: &[Example]) -> Vec<String> {
    let hull = Hull::fresh();
    let directory = tempfile::tempdir().unwrap();
    let mut script = String::new();
    for example in examples {
        script.push_str(&example.command);
        script.push_str("\nprintf '\\001%d\\001' \"$?\"\n");
    }
    let file = directory.path().join(".script");
    fs::write(&file, script).unwrap();
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();

    let like = hull.command(&["version"]);
    let program = std::path::absolute(like.get_program()).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    // docker-compose 2, which make test puts there.
    let compose = repository().join("target/compose");
    shell
        .args(["-c", "exec 2>&1; source \"$1\"", "bash"])
        .arg(&file)
        .current_dir(&work)
        .stdin(Stdio::null())
        .env(
            "PATH",
            format!(
                "{}:{}:{path}",
                program.parent().unwrap().display(),
                compose.display()
            ),
        );
    for (name, value) in like.get_envs() {
        shell.env(name, std::path::absolute(value.unwrap()).unwrap());
    }
    let done = shell.output().expect("running bash");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();

    let left = hull.ok(&["ps", "-aq"]);
    for container in left.lines() {
        hull.ok(&["rm", "-f", container]);
    }

    let name = page.file_name().unwrap().to_string_lossy();
    let mut parts = said.split(MARK);
    let mut wrong = Vec::new();
    for example in examples {
        let place = format!("{name}:{}: {}", example.line, example.command);
        let (Some(output), Some(code)) = (parts.next(), parts.next()) else {
            wrong.push(format!("{place}\n  did not run: {said}"));
            break;
        };
        if code != example.code.to_string() {
            wrong.push(format!(
                "{place}\n  exit {code}, not {}:\n{output}",
                example.code
            ));
        } else if let Some(line) = missing(&example.output, output) {
            wrong.push(format!("{place}\n  does not print {line:?}:\n{output}"));
        }
    }
    wrong
}

#[test]
fn every_command_in_the_documentation_does_what_it_says() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let examples = examples(&fs::read_to_string(&page).unwrap());
        count += examples.len();
        if !examples.is_empty() {
            wrong.extend(run(&page, &examples));
        }
    }
    assert!(count > 30, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// `path.rs: function` in backticks, or a script of `tests` and its function, each with its line.
fn named_tests(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let Some((file, function)) = quoted.split_once(": ") else {
                continue;
            };
            let script = file.starts_with("tests/") && !file.contains(['.', ' ']);
            if file.ends_with(".rs") || script {
                found.push((number + 1, file.to_owned(), function.to_owned()));
            }
        }
    }
    found
}

/// Whether `function` is a test that runs: by its attribute, in a list of tests, or called by its
/// script.
fn is_test(source: &str, function: &str) -> bool {
    if source.starts_with("#!") {
        let has = |wanted: &str| source.lines().any(|line| line == wanted);
        return has(&format!("{function}() {{")) && has(function);
    }
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let start = format!("fn {function}(");
    let Some(at) = lines.iter().position(|line| line.starts_with(&start)) else {
        return false;
    };
    let attributes = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with('#'));
    let attributes: Vec<&&str> = attributes.collect();
    let ignored = attributes.iter().any(|line| line.starts_with("#[ignore"));
    let listed = source.contains(&format!("::{function}\""));
    !ignored && (listed || attributes.iter().any(|line| **line == "#[test]"))
}

#[test]
fn every_promise_names_a_test_that_exists() {
    for (page, least) in [("SPECIFICATION.md", 40), ("SECURITY.md", 15)] {
        let text = fs::read_to_string(repository().join(page)).unwrap();
        let named = named_tests(&text);
        assert!(named.len() >= least, "{page} names {} tests", named.len());
        for (line, file, function) in named {
            let source = fs::read_to_string(repository().join(&file))
                .unwrap_or_else(|error| panic!("{page}:{line}: {file}: {error}"));
            let found = is_test(&source, &function);
            assert!(found, "{page}:{line}: {file} has no test {function}");
        }
    }
}

#[test]
fn every_promise_has_a_test_and_a_number_of_its_own() {
    let text = fs::read_to_string(repository().join("SPECIFICATION.md")).unwrap();
    let mut expected = 1;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let first = row.split('|').nth(1).unwrap_or_default().trim();
        let Ok(number) = first.parse::<u32>() else {
            continue;
        };
        assert_eq!(number, expected, "{row}");
        assert!(!named_tests(row).is_empty(), "no test holds: {row}");
        expected += 1;
    }
    assert!(expected > 40, "only {} promises were found", expected - 1);
}

#[test]
fn output_is_compared_with_gaps() {
    for (pattern, line, same) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…", "ab", true),
        ("…b", "ab", true),
        ("a…c…e", "abcde", true),
        ("a…x…e", "abcde", false),
        ("ab…ba", "aba", false),
    ] {
        assert_eq!(matches(pattern, line), same, "{pattern} {line}");
    }
    let text = "```console\n$ one \\\n  two\nout\n# exit 3\n```\n```sh\n$ no\n```\n";
    let found = examples(text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].command, "one \\\n  two");
    assert_eq!(
        (found[0].code, found[0].output.as_slice()),
        (3, &["out".to_owned()][..])
    );
}
