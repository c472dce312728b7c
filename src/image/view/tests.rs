use std::io::Cursor;

use super::*;
use crate::image::layer::{self, LayerLimits};

/// A layer with files of these names and contents; directories end in a slash.
fn layer(files: &[(&str, &str)]) -> Reader {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
            continue;
        }
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    let file = tempfile::tempfile().unwrap();
    let bytes = Cursor::new(builder.into_inner().unwrap());
    layer::convert(bytes, &file, &LayerLimits::default()).unwrap();
    Reader::open(file).unwrap()
}

/// The lowest layer first.
fn view(layers: Vec<Reader>) -> Arc<View> {
    Arc::new(View::of(layers))
}

/// All files with their contents.
fn listed(view: &Arc<View>) -> Vec<String> {
    fn walk(view: &Arc<View>, node: &Node, path: &str, found: &mut Vec<String>) {
        for (name, child) in view.children(node).unwrap() {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            let single = view.child(node, &name).unwrap().unwrap();
            assert_eq!(single.identity(), child.identity(), "{path}");
            match child.file_type() {
                FileType::Directory => walk(view, &child, &path, found),
                FileType::Symlink => {
                    let target = view.read_link(&child).unwrap();
                    found.push(format!("{path} -> {}", String::from_utf8_lossy(&target)));
                }
                _ => {
                    let content = view.read_small(&child).unwrap();
                    found.push(format!("{path} {}", String::from_utf8_lossy(&content)));
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(view, &view.root().unwrap(), "", &mut found);
    found
}

#[test]
fn layers_are_seen_as_overlayfs_shows_them() {
    let view = view(vec![
        layer(&[
            ("a", "1"),
            ("b", "1"),
            ("d/", ""),
            ("d/x", "1"),
            ("d/y", "1"),
            ("e/", ""),
            ("e/x", "1"),
            ("f", "1"),
            ("g/", ""),
            ("g/x", "1"),
            ("l", "->a"),
        ]),
        layer(&[
            ("b", "2"),
            (".wh.a", ""),
            ("d/", ""),
            ("d/.wh.x", ""),
            ("d/z", "2"),
            ("e/", ""),
            ("e/.wh..wh..opq", ""),
            ("e/n", "2"),
            // A file becomes a directory, and a directory a file.
            ("f/", ""),
            ("f/x", "2"),
            ("g", "2"),
        ]),
        layer(&[
            ("a", "3"),
            ("e/", ""),
            ("e/m", "3"),
            ("g/", ""),
            ("g/q", "3"),
        ]),
    ]);
    assert_eq!(
        listed(&view),
        [
            "/a 3", "/b 2", "/d/y 1", "/d/z 2", "/e/m 3", "/e/n 2", "/f/x 2", "/g/q 3", "/l -> a"
        ]
    );
    let root = view.root().unwrap();
    assert!(view.child(&root, b"nothing").unwrap().is_none());
    assert!(view.child(&root, b"d/y").unwrap().is_none());
    let gone = view.child(&root, b"d").unwrap().unwrap();
    assert!(view.child(&gone, b"x").unwrap().is_none());
}

#[test]
fn no_layers_are_an_empty_directory() {
    let view = Arc::new(View::empty());
    assert!(listed(&view).is_empty());
    let root = view.root().unwrap();
    assert!(root.inode().is_none() && view.origin(&root).is_none());
    assert_eq!(view.xattrs(&root).unwrap().len(), 0);
}
