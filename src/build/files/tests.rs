use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

fn context(dir: &std::path::Path, ignore: &str) -> Context {
    Context::new(dir.to_owned(), Ignore::parse(ignore).unwrap())
}

fn listed(tree: &dyn Tree) -> Vec<String> {
    fn walk(tree: &dyn Tree, node: &Node, path: &str, found: &mut Vec<String>) {
        for (name, child) in tree.children(node).unwrap() {
            let path = format!("{path}{}", String::from_utf8_lossy(&name));
            if child.meta.kind == FileType::Directory {
                walk(tree, &child, &format!("{path}/"), found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(tree, &tree.root().unwrap(), "", &mut found);
    found
}

#[test]
fn ignored_files_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    for path in [
        "a/b/c.o",
        "a/b/d",
        "a/keep/x",
        "node_modules/y",
        "x.md",
        "README.md",
        "é/f",
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let listed = |ignore: &str| listed(&context(dir.path(), ignore)).join(" ");
    assert_eq!(
        listed(""),
        "README.md a/b/c.o a/b/d a/keep/x node_modules/y x.md é/f"
    );
    assert_eq!(
        listed("*.md\n!README.md\n"),
        "README.md a/b/c.o a/b/d a/keep/x node_modules/y é/f"
    );
    assert_eq!(
        listed("# c\n\n**/*.o\n/node_modules/\n"),
        "README.md a/b/d a/keep/x x.md é/f"
    );
    assert_eq!(
        listed("a\n!a/keep\n"),
        "README.md a/keep/x node_modules/y x.md é/f"
    );
    assert_eq!(listed("*\n!a/b/?\n"), "a/b/d");
    assert_eq!(listed("**"), "");
    assert_eq!(
        listed("a/*/[a-c].o\n[^a-z]*"),
        "a/b/d a/keep/x node_modules/y x.md"
    );
    assert!(Ignore::parse("[").is_err());
    // Many of them take no longer than one.
    let ignore = Ignore::parse(&format!("{}b", "**/a/".repeat(20))).unwrap();
    assert!(!ignore.is_ignored("a/".repeat(1000).as_bytes()));
    assert!(ignore.is_ignored(format!("{}b", "a/".repeat(1000)).as_bytes()));
}

#[test]
fn links_stay_inside_the_context() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("context");
    fs::create_dir_all(root.join("sub/etc")).unwrap();
    fs::create_dir(root.join("etc")).unwrap();
    fs::write(outer.path().join("secret"), "outside").unwrap();
    fs::write(root.join("etc/secret"), "inside").unwrap();
    symlink("/etc", root.join("absolute")).unwrap();
    symlink("../../../etc/secret", root.join("sub/up")).unwrap();
    symlink(outer.path().join("secret"), root.join("out")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let tree = context(&root, "");
    let read = |path: &str| {
        let node = find(&tree, path.as_bytes()).unwrap()?;
        let mut text = String::new();
        tree.open(&node).unwrap().read_to_string(&mut text).unwrap();
        Some(text)
    };
    assert_eq!(read("absolute/secret").as_deref(), Some("inside"));
    assert_eq!(read("sub/up").as_deref(), Some("inside"));
    assert_eq!(read("../../etc/secret").as_deref(), Some("inside"));
    assert_eq!(read("out"), None);
    assert_eq!(read("etc/secret/x"), None);
    assert!(matches!(find(&tree, b"loop/x"), Err(FileError::Loop(_))));
    let place = resolve(&tree, b"absolute/new/deep", true).unwrap();
    assert_eq!(place.path.join(&b'/'), b"etc/new/deep");
    assert!(place.node.is_none());
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let tree = context(dir.path(), "");
    let node = find(&tree, b"pipe").unwrap().unwrap();
    let error = tree.open(&node).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.starts_with("pipe of the build context is a device"),
        "{error}"
    );
}

#[test]
fn patterns_find_files() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["a.txt", "b.txt", "c/d.txt", "c/e/f.txt", "c/g"] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let tree = context(dir.path(), "");
    let found = |pattern: &str| {
        let found = glob(&tree, pattern).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|f| String::from_utf8_lossy(f).into_owned())
            .collect();
        found.join(" ")
    };
    assert_eq!(found("*.txt"), "a.txt b.txt");
    assert_eq!(found("/[ab].t?t"), "a.txt b.txt");
    assert_eq!(found("c/*"), "c/d.txt c/e c/g");
    assert_eq!(found("**/*.txt"), "a.txt b.txt c/d.txt c/e/f.txt");
    assert_eq!(found("*/e/*"), "c/e/f.txt");
    assert_eq!(found("none*"), "");
    assert!(glob(&tree, "[").is_err());
}

proptest! {
    #[test]
    fn any_pattern_is_read_without_a_panic(text in "[ab*?\\[\\]^\\\\!/.-]{0,20}", path in "[ab/.]{0,20}") {
        if let Ok(ignore) = Ignore::parse(&text) {
            ignore.is_ignored(path.as_bytes());
        }
    }

    #[test]
    fn plain_names_match_themselves_only(a in "[a-c]{1,4}", b in "[a-c]{1,4}") {
        let pattern = Pattern::new(&a).unwrap();
        prop_assert_eq!(pattern.matches(b.as_bytes()), a == b);
    }
}
