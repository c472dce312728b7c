//! `login` and `logout`.

use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use console::Term;

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::image::{self, registry::Kept};

/// The longest password that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Options of `login`.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long)]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
    /// Username
    #[arg(short, long)]
    username: Option<String>,
    /// The registry, Docker Hub if none is given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Options of `logout`.
#[derive(Debug, clap::Args)]
pub struct Logout {
    /// The registry, Docker Hub if none is given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// `login`.
pub fn login(args: &Login, context: &Context) -> anyhow::Result<ExitCode> {
    let registry = image::registry_named(args.server.as_deref());
    let settings = &context.settings;
    if args.username.is_none() && args.password.is_none() && !args.password_stdin {
        match image::login_again(settings, registry) {
            Ok(Some(())) => {
                print("Authenticating with existing credentials...\nLogin Succeeded\n")?;
                return Ok(ExitCode::SUCCESS);
            }
            // Then it takes others.
            Ok(None) => {}
            Err(error) => eprintln!("hull: {error}"),
        }
    }
    let (user, password) = who(args)?;
    if let Kept::Plain(path) = image::login(settings, registry, &user, &password)? {
        let path = path.display();
        eprintln!("WARNING! Your credentials are stored unencrypted in '{path}'.");
        eprintln!("Configure a credential helper to remove this warning.");
    }
    print("Login Succeeded\n")?;
    Ok(ExitCode::SUCCESS)
}

/// The user's name and password, from wherever they are to come.
fn who(args: &Login) -> anyhow::Result<(String, String)> {
    if args.password_stdin {
        let Some(user) = args.username.clone() else {
            bail!("--password-stdin needs --username");
        };
        let mut password = String::new();
        let stdin = io::stdin().lock();
        let read = stdin.take(LONGEST).read_to_string(&mut password);
        read.context("reading the password")?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        return checked(user, password);
    }
    if args.password.is_some() {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let term = Term::stderr();
    let ask = || {
        if !io::stdin().is_terminal() || !term.is_term() {
            bail!("there is no terminal to ask for user and password, use --password-stdin");
        }
        Ok(())
    };
    let user = match &args.username {
        Some(user) => user.clone(),
        None => {
            ask()?;
            term.write_str("Username: ")?;
            term.read_line()?.trim().to_owned()
        }
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None => {
            ask()?;
            term.write_str("Password: ")?;
            term.read_secure_line()?
        }
    };
    checked(user, password)
}

fn checked(user: String, password: String) -> anyhow::Result<(String, String)> {
    if user.is_empty() || user.contains(':') {
        bail!("{user:?} is no username: it is empty or has a colon");
    }
    if password.is_empty() {
        bail!("the password is empty");
    }
    Ok((user, password))
}

/// `logout`.
pub fn logout(args: &Logout) -> anyhow::Result<ExitCode> {
    let registry = image::registry_named(args.server.as_deref());
    print(&match image::logout(registry)? {
        true => format!("Removing login credentials for {registry}\n"),
        false => format!("Not logged in to {registry}\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}
