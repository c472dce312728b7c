use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use proptest::prelude::*;

use super::merge::{self, Merged};
use super::*;
use crate::image::erofs::Reader;
use crate::image::layer::{self, LayerLimits};

/// A layer with these entries: `name/` a directory, `name` a file with the content.
fn layer(entries: &[(String, String)]) -> Reader {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        header.set_size(content.len() as u64);
        let data = content.as_bytes();
        builder.append_data(&mut header, name, data).unwrap();
    }
    let file = tempfile::tempfile().unwrap();
    let bytes = Cursor::new(builder.into_inner().unwrap());
    layer::convert(bytes, &file, &LayerLimits::default()).unwrap();
    Reader::open(file).unwrap()
}

fn layers(stack: &[&[(&str, &str)]]) -> Vec<Reader> {
    let owned = |entries: &&[(&str, &str)]| -> Vec<(String, String)> {
        let own = entries
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        own.collect()
    };
    stack.iter().map(|entries| layer(&owned(entries))).collect()
}

/// Every change as a word, layer by layer, and the merged view.
fn told(readers: &[Reader]) -> (Vec<Vec<String>>, Merged) {
    let mut merged = Merged::new();
    let mut told = Vec::new();
    for index in 0..readers.len() {
        let applied = merge::apply(&mut merged, readers, index, &BTreeSet::new()).unwrap();
        let words = applied.changes.iter().map(|change| {
            let sign = match change.what {
                What::Added => '+',
                What::Changed => '~',
                What::Hidden => '-',
            };
            let opaque = if change.opaque { " opaque" } else { "" };
            let same = if change.same { " same" } else { "" };
            let hides = match change.hides {
                0 => String::new(),
                count => format!(" hides {count}"),
            };
            format!("{sign}{}{opaque}{same}{hides}", shown(&change.path))
        });
        told.push(words.collect());
    }
    (told, merged)
}

#[test]
fn each_layer_says_what_it_does() {
    let readers = layers(&[
        &[
            ("d/", ""),
            ("d/a", "1"),
            ("d/b", "2"),
            ("e/", ""),
            ("e/x", "3"),
            ("f", "4"),
        ],
        &[
            ("d/", ""),
            ("d/a", "one"),
            ("d/.wh.b", ""),
            ("e/", ""),
            ("e/.wh..wh..opq", ""),
            ("e/y", "5"),
        ],
        &[
            (".wh.d", ""),
            ("f", "4"),
            ("e", "now a file"),
            (".wh.never", ""),
        ],
    ]);
    let (told, merged) = told(&readers);
    assert_eq!(told[0], ["+d", "+d/a", "+d/b", "+e", "+e/x", "+f"]);
    assert_eq!(
        told[1],
        ["~d/a hides 1", "-d/b hides 1", "~e opaque hides 1", "+e/y"]
    );
    assert_eq!(
        told[2],
        ["-d hides 2", "~e hides 2", "~f same hides 1", "-never"]
    );
    let seen: Vec<_> = merged.keys().map(|path| shown(path)).collect();
    assert_eq!(seen, ["e", "f"]);
    assert_eq!(merge::seen_bytes(&merged, 3), [0, 0, 11]);
}

#[test]
fn many_files_are_summed_up_by_directory() {
    let names: Vec<(String, String)> = (0..40)
        .map(|n| {
            (
                format!("usr/{}/{n}", if n % 2 == 0 { "bin" } else { "lib" }),
                "x".to_owned(),
            )
        })
        .collect();
    let readers = [layer(&names)];
    let mut merged = Merged::new();
    let changes = merge::apply(&mut merged, &readers, 0, &BTreeSet::new())
        .unwrap()
        .changes;
    let (lines, rest) = outline(&changes, 10);
    assert_eq!(rest, 0);
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line.path.as_str(), line.count, line.size))
        .collect();
    assert_eq!(
        told,
        [("usr/", 1, 0), ("usr/bin/", 21, 20), ("usr/lib/", 21, 20)]
    );
    assert_eq!(outline(&changes, 1000).0.len(), changes.len());
    assert_eq!(outline(&changes, 1).0[0].count, changes.len());
}

/// A layer of a small world, with whiteouts and opaque directories among its names.
fn some_layer() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let path = prop::collection::vec(name, 1..4);
    let entry = (path, 0..5_u8, "[xyz]{0,3}");
    prop::collection::vec(entry, 0..12).prop_map(|entries| {
        let mut layer: BTreeMap<String, String> = BTreeMap::new();
        for (path, kind, content) in entries {
            let (last, above) = path.split_last().unwrap();
            let above: String = above.iter().map(|name| format!("{name}/")).collect();
            let whole = format!("{above}{last}");
            let taken = |layer: &BTreeMap<String, String>, path: &str| {
                layer.contains_key(path)
                    || layer.keys().any(|key| key.starts_with(&format!("{path}/")))
            };
            // What one layer holds must not contradict itself.
            let mut prefix = String::new();
            let blocked = above.split_terminator('/').any(|name| {
                prefix = if prefix.is_empty() {
                    name.to_owned()
                } else {
                    format!("{prefix}/{name}")
                };
                layer.contains_key(&prefix)
            });
            if blocked || taken(&layer, &whole) {
                continue;
            }
            match kind {
                0 => drop(layer.insert(format!("{above}.wh.{last}"), String::new())),
                1 => {
                    layer.insert(format!("{whole}/"), String::new());
                    layer.insert(format!("{whole}/.wh..wh..opq"), String::new());
                }
                2 => drop(layer.insert(format!("{whole}/"), String::new())),
                _ => drop(layer.insert(whole, content)),
            }
        }
        layer.into_iter().collect()
    })
}

proptest! {
    /// The merged view of many layers is that of `View`, which a build copies from.
    #[test]
    fn the_merged_view_is_the_one_that_builds_see(stack in prop::collection::vec(some_layer(), 1..6)) {
        let readers: Vec<Reader> = stack.iter().map(|entries| layer(entries)).collect();
        let (_, merged) = told(&readers);
        let view = crate::image::View::of(stack.iter().map(|entries| layer(entries)).collect());
        let mut expected = BTreeMap::new();
        let mut waiting = vec![(Vec::new(), view.root().unwrap())];
        while let Some((path, node)) = waiting.pop() {
            for (name, child) in view.children(&node).unwrap() {
                let path = [&path[..], &name].join(&b'/');
                let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
                let inode = child.inode().unwrap();
                expected.insert(path.clone(), (child.file_type(), inode.size * u64::from(child.file_type() == FileType::Regular)));
                if child.file_type() == FileType::Directory {
                    waiting.push((path, child));
                }
            }
        }
        let found: BTreeMap<Vec<u8>, (FileType, u64)> = merged
            .into_iter()
            .map(|(path, node)| {
                let kind = node.inode.file_type;
                (path, (kind, node.inode.size * u64::from(kind == FileType::Regular)))
            })
            .collect();
        prop_assert_eq!(found, expected);
    }
}
