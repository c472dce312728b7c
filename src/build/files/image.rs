//! An image's files as a source, and as the place that copies go to.

use std::io::Read;
use std::sync::Arc;

use super::{FileError, Meta, Node, Tree, Where};
use crate::image::erofs::Xattrs;
use crate::image::{View, ViewNode};

/// The files of an image.
#[derive(Debug, Clone)]
pub struct ImageTree(pub Arc<View>);

impl ImageTree {
    fn node(node: ViewNode) -> Node {
        let meta = match node.inode() {
            Some(inode) => Meta {
                kind: inode.file_type,
                mode: u32::from(inode.mode),
                uid: inode.uid,
                gid: inode.gid,
                mtime: inode.mtime.secs,
                size: inode.size,
                device: inode.device().unwrap_or_default(),
                identity: (inode.links > 1).then(|| node.identity()).flatten(),
            },
            // The root of an image without layers.
            None => Meta::ROOT,
        };
        Node {
            meta,
            place: Where::Image(node),
        }
    }
}

fn place(node: &Node) -> Option<&ViewNode> {
    match &node.place {
        Where::Image(node) => Some(node),
        _ => None,
    }
}

impl Tree for ImageTree {
    fn root(&self) -> Result<Node, FileError> {
        Ok(Self::node(self.0.root()?))
    }

    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, FileError> {
        let Some(directory) = place(directory) else {
            return Ok(None);
        };
        Ok(self.0.child(directory, name)?.map(Self::node))
    }

    fn children(&self, directory: &Node) -> Result<Vec<(Vec<u8>, Node)>, FileError> {
        let Some(directory) = place(directory) else {
            return Ok(Vec::new());
        };
        let children = self.0.children(directory)?.into_iter();
        Ok(children
            .map(|(name, node)| (name, Self::node(node)))
            .collect())
    }

    fn link(&self, node: &Node) -> Result<Vec<u8>, FileError> {
        match place(node) {
            Some(node) => Ok(self.0.read_link(node)?),
            None => Ok(Vec::new()),
        }
    }

    fn open(&self, node: &Node) -> Result<Box<dyn Read + Send>, FileError> {
        match place(node) {
            Some(node) => Ok(Box::new(self.0.content(node))),
            None => Ok(Box::new(std::io::empty())),
        }
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, FileError> {
        match place(node) {
            Some(node) => Ok(self.0.xattrs(node)?),
            None => Ok(Xattrs::new()),
        }
    }
}
