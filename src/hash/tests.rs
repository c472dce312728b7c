use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn subject(path: &Path) -> Subject {
    Subject {
        name: path.display().to_string(),
        source: Source::Path,
        listing: directory::read(path).unwrap(),
    }
}

fn world() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::write(directory.path().join("a/b"), "hello\n").unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    symlink("a/b", directory.path().join("link")).unwrap();
    directory
}

#[test]
fn the_content_hash_is_that_of_content_alone() {
    let (one, two) = (world(), world());
    let touched = fs::File::options()
        .write(true)
        .open(two.path().join("a/b"))
        .unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(two.path().join("empty"), fs::Permissions::from_mode(0o600)).unwrap();
    let (a, b) = (subject(one.path()), subject(two.path()));
    assert_eq!(a.listing.digest(), b.listing.digest());
    let found = compare(&a, &b);
    assert!(found.same && found.times >= 1, "{found:?}");
    assert!(
        matches!(&found.differences[..], [(path, Difference::Attributes(_))] if path == "empty"),
        "{found:?}"
    );

    fs::write(two.path().join("a/b"), "Hello\n").unwrap();
    fs::remove_file(two.path().join("link")).unwrap();
    fs::write(two.path().join("new"), "").unwrap();
    let b = subject(two.path());
    assert_ne!(a.listing.digest(), b.listing.digest());
    let found = compare(&a, &b);
    assert!(!found.same);
    let told: Vec<_> = found
        .differences
        .iter()
        .map(|(path, what)| (path.as_str(), what.clone()))
        .collect();
    assert_eq!(told[0], ("a/b", Difference::Content));
    assert!(told.contains(&("link", Difference::OnlyFirst)));
    assert!(told.contains(&("new", Difference::OnlySecond)));
}

#[test]
fn the_text_says_what_is_hashed() {
    let directory = world();
    let text = subject(directory.path()).listing.text();
    let lines: Vec<&str> = text.lines().collect();
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(lines[0], format!("directory {nothing} a"));
    let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(lines[1], format!("file {hello} a/b"));
    assert_eq!(lines[2], format!("file {nothing} empty"));
    // No name can look like two lines, or like another name.
    fs::write(directory.path().join("x\ny"), "").unwrap();
    fs::write(directory.path().join("x\\x0ay"), "").unwrap();
    let text = subject(directory.path()).listing.text();
    assert_eq!(text.lines().count(), 6);
    assert!(
        text.contains(" x\\x0ay\n") && text.contains(" x\\\\x0ay\n"),
        "{text}"
    );
}
