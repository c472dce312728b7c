//! `COPY` and `ADD`: from an instruction to a layer.

use std::sync::Arc;
use std::time::Instant;

use guest_agent::parse::accounts;

use super::{StageRun, fetch};
use crate::build::copy::{self, Mode, Options, Placer, Source};
use crate::build::dockerfile::{Copy, Step, expand};
use crate::build::files::{FileError, Ignore, ImageTree, SharedTree, find};
use crate::build::{BuildError, NamedContext};
use crate::image::View;

impl StageRun<'_> {
    pub(super) fn copy(
        &mut self,
        step: &Step,
        copy: &Copy,
        add: bool,
        began: Instant,
    ) -> Result<(), BuildError> {
        let wrong = |message: String| BuildError::from(self.mistake(step.span, message));
        let (tree, place) = match &copy.from {
            None => (
                Arc::clone(&self.builder.options.context),
                "the build context (or left out by .dockerignore)".to_owned(),
            ),
            Some(from) => {
                let from = self.expand(step, from)?;
                (self.source(&from)?, format!("{from:?}"))
            }
        };
        let mut sources = Vec::new();
        for heredoc in &copy.heredocs {
            let mut text = heredoc.content.clone();
            if heredoc.expand {
                text = expand::text(&text, self.builder.escape, &|name| self.variable(name))
                    .map_err(wrong)?;
            }
            sources.push(Source::Text(heredoc.name.clone(), text.into_bytes().into()));
        }
        for source in &copy.sources {
            let source = self.expand(step, source)?;
            if add
                && let Some(fetched) = fetch::fetch(self.builder, &source, copy).map_err(wrong)?
            {
                sources.push(fetched);
                continue;
            }
            sources.push(Source::Path(Arc::clone(&tree), source));
        }
        let mut exclude = Ignore::default();
        for pattern in &copy.exclude {
            let pattern = self.expand(step, pattern)?;
            exclude.add(&pattern, false)?;
        }
        let mode = match &copy.chmod {
            None => None,
            Some(text) => {
                let text = self.expand(step, text)?;
                Some(Mode::parse(&text).map_err(|error| wrong(error.to_string()))?)
            }
        };
        let options = Options {
            place,
            destination: self.expand(step, &copy.destination)?,
            working_dir: self.state.working_dir(),
            mode,
            exclude,
            parents: copy.parents,
            unpack: add && copy.unpack.unwrap_or(true),
        };
        let view = self.view()?;
        let owner = match &copy.chown {
            None => None,
            Some(owner) => {
                let owner = self.expand(step, owner)?;
                Some(owner_of(&view, &owner).map_err(|message| self.mistake(step.span, message))?)
            }
        };
        let image = ImageTree(view);
        // A linked layer is the same whatever it is put on.
        let below: Option<&dyn crate::build::files::Tree> = match copy.link {
            true => None,
            false => Some(&image),
        };
        let mut placer = Placer::new(below, owner, self.builder.options.epoch);
        let store = self.builder.store;
        let spool = || -> std::io::Result<std::fs::File> {
            let file = store.temp_file("add").map_err(std::io::Error::other)?;
            // It stays as long as somebody reads it.
            file.file().try_clone()
        };
        copy::copy(&mut placer, &sources, &options, &spool)
            .map_err(|error| self.mistake(step.span, error.to_string()))?;
        let layer = self.layer(&placer.finish())?;
        self.finish(step.text.clone(), Some(layer), None, began)
    }

    /// The files of a stage or an image.
    pub(super) fn source(&self, from: &str) -> Result<SharedTree, BuildError> {
        match self.builder.context(from) {
            Some(NamedContext::Files(tree)) => return Ok(Arc::clone(tree)),
            Some(NamedContext::Image(name)) => {
                let image = self.builder.image(name, None)?;
                let view = View::open(self.builder.store, &image)?;
                return Ok(Arc::new(ImageTree(Arc::new(view))));
            }
            None => {}
        }
        let empty = || Arc::new(ImageTree(Arc::new(View::empty())));
        let image = match self.plan.stage(from, self.planned.index) {
            Some(stage) => {
                let state = self.stages.result(stage).ok_or(BuildError::Stopped)?;
                match state.id {
                    Some(id) => self.builder.load(&id)?,
                    None => return Ok(empty()),
                }
            }
            None if from.eq_ignore_ascii_case("scratch") => return Ok(empty()),
            None => self.builder.image(from, None)?,
        };
        let view = View::open(self.builder.store, &image)?;
        Ok(Arc::new(ImageTree(Arc::new(view))))
    }
}

/// `USER`, `USER:GROUP`, by names of the image or by numbers.
fn owner_of(view: &Arc<View>, owner: &str) -> Result<(u32, u32), String> {
    let image = ImageTree(Arc::clone(view));
    let read = |path: &str| -> Result<Vec<u8>, FileError> {
        use std::io::Read;
        let mut content = Vec::new();
        if let Some(node) = find(&image, path.as_bytes())? {
            use crate::build::files::Tree;
            let file = image.open(&node)?.take(16 << 20).read_to_end(&mut content);
            file.map_err(|error| {
                crate::image::ImageError::io("read accounts of the image", error)
            })?;
        }
        Ok(content)
    };
    let (user, group) = owner
        .split_once(':')
        .map_or((owner, None), |(u, g)| (u, Some(g)));
    // As docker: a number alone is user and group.
    let text = match (user.parse::<u32>(), group) {
        (Ok(number), None) => format!("{number}:{number}"),
        _ => owner.to_owned(),
    };
    let passwd = read("/etc/passwd").map_err(|error| error.to_string())?;
    let groups = read("/etc/group").map_err(|error| error.to_string())?;
    let found = accounts::resolve(&text, &[], &passwd, &groups);
    let found = found
        .map_err(|error| format!("unable to convert uid/gid chown string {owner}: {error}"))?;
    Ok((found.uid, found.gid))
}
