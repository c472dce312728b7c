//! `import`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::image::archive::{self, Import};

/// Options of `import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long)]
    message: Option<String>,
    /// Set platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// A tar archive, or - for STDIN
    #[arg(value_name = "FILE|-")]
    source: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `import`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        !args.source.starts_with("http://") && !args.source.starts_with("https://"),
        "import from a URL is not there yet: fetch it and pipe it in, as in \
         `curl -sL {} | hull import -`",
        args.source
    );
    let reference = args.name.as_deref().map(str::parse).transpose()?;
    let input = match args.source.as_str() {
        "-" => File::from(io::stdin().as_fd().try_clone_to_owned()?),
        path => super::load::open(&path.into())?,
    };
    let import = Import {
        reference,
        platform: args.platform.clone(),
        changes: args.change.clone(),
        message: args.message.clone(),
        source: args.source.clone(),
    };
    let image = archive::import(&context.store, &context.settings, input, &import)?;
    print(&format!("{}\n", image.id))?;
    Ok(ExitCode::SUCCESS)
}
