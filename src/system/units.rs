//! Files for systemd, a user's or the system's: what resumes containers at boot, and the socket that
//! starts `hull serve` when somebody connects.

use std::fmt::Write as _;
use std::path::Path;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Resumes containers at boot and suspends them at shutdown.
    Resume,
    /// Listens for docker's clients.
    Socket,
    /// Answers them.
    Serve,
}

/// What the files depend on.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Where hull is.
    pub program: &'a Path,
    /// What hull is told by the environment.
    pub environment: &'a [(String, String)],
    /// For the system's manager, and not for a user's.
    pub superuser: bool,
    /// Where docker's clients find `hull serve`.
    pub socket: &'a Path,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Resume => "hull.service",
            Self::Socket => "hull-serve.socket",
            Self::Serve => "hull-serve.service",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Resume => "",
            Self::Socket => " socket",
            Self::Serve => " serve",
        }
    }

    /// The file, beginning with how to install it.
    pub fn text(self, setting: &Setting<'_>) -> String {
        let program = quote(&setting.program.display().to_string());
        let mut environment = String::new();
        for (name, value) in setting.environment {
            // Writing to a string cannot fail.
            let _ = writeln!(
                environment,
                "Environment={}",
                quote(&format!("{name}={value}"))
            );
        }
        let head = self.head(setting.superuser);
        match self {
            Self::Resume => {
                let target = match setting.superuser {
                    true => "multi-user.target",
                    false => "default.target",
                };
                format!(
                    "# Starts at boot what its restart policy says. {head}\
                     [Unit]\n\
                     Description=Containers of hull\n\
                     After=network-online.target\n\
                     Wants=network-online.target\n\
                     \n\
                     [Service]\n\
                     Type=oneshot\n\
                     RemainAfterExit=yes\n\
                     {environment}\
                     ExecStart={program} system resume\n\
                     ExecStop={program} system suspend\n\
                     TimeoutStopSec=120\n\
                     \n\
                     [Install]\n\
                     WantedBy={target}\n"
                )
            }
            Self::Socket => format!(
                "# Starts hull-serve.service when a client of docker's connects. {head}\
                 [Unit]\n\
                 Description=Docker Engine API of hull\n\
                 \n\
                 [Socket]\n\
                 ListenStream={}\n\
                 SocketMode=0600\n\
                 DirectoryMode=0700\n\
                 \n\
                 [Install]\n\
                 WantedBy=sockets.target\n",
                percent(&setting.socket.display().to_string())
            ),
            // Containers are children of whoever started them: only the server itself may end.
            Self::Serve => format!(
                "# Is started by hull-serve.socket. {head}\
                 [Unit]\n\
                 Description=Docker Engine API of hull\n\
                 Requires=hull-serve.socket\n\
                 \n\
                 [Service]\n\
                 {environment}\
                 ExecStart={program} serve\n\
                 KillMode=process\n"
            ),
        }
    }

    fn head(self, superuser: bool) -> String {
        let (name, word) = (self.name(), self.word());
        let (directory, manager) = match superuser {
            true => ("/etc/systemd/system", "systemctl"),
            false => ("~/.config/systemd/user", "systemctl --user"),
        };
        let linger = match (self, superuser) {
            (Self::Resume, false) => " && loginctl enable-linger",
            _ => "",
        };
        let enable = match self {
            Self::Resume => format!("#   {manager} enable {name}{linger}\n"),
            Self::Socket => format!("#   {manager} enable --now {name}\n"),
            Self::Serve => String::new(),
        };
        format!("To install it:\n#   hull system unit{word} > {directory}/{name}\n{enable}")
    }
}

/// A word as systemd reads it in a command line or a setting.
fn quote(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", percent(&escaped).replace('$', "$$"))
}

/// A text in which systemd is to replace nothing.
fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unit: Unit, superuser: bool) -> String {
        unit.text(&Setting {
            program: Path::new("/opt/hull"),
            environment: &[("HULL_ROOT".to_owned(), "/a b%".to_owned())],
            superuser,
            socket: Path::new("/run/user/7/hull/hull.sock"),
        })
    }

    #[test]
    fn the_unit_names_the_program_and_its_environment() {
        let resume = text(Unit::Resume, false);
        assert!(
            resume.contains("ExecStart=\"/opt/hull\" system resume\n"),
            "{resume}"
        );
        assert!(
            resume.contains("Environment=\"HULL_ROOT=/a b%%\"\n"),
            "{resume}"
        );
        assert!(resume.ends_with("WantedBy=default.target\n"), "{resume}");
        assert!(text(Unit::Resume, true).contains("multi-user.target"));
    }

    #[test]
    fn the_socket_is_its_owners_and_starts_the_server() {
        let socket = text(Unit::Socket, false);
        for line in [
            "#   hull system unit socket > ~/.config/systemd/user/hull-serve.socket",
            "ListenStream=/run/user/7/hull/hull.sock",
            "SocketMode=0600",
        ] {
            assert!(socket.lines().any(|one| one == line), "{line}: {socket}");
        }
        let serve = text(Unit::Serve, true);
        for line in [
            "#   hull system unit serve > /etc/systemd/system/hull-serve.service",
            "Environment=\"HULL_ROOT=/a b%%\"",
            "ExecStart=\"/opt/hull\" serve",
            "KillMode=process",
        ] {
            assert!(serve.lines().any(|one| one == line), "{line}: {serve}");
        }
    }
}
